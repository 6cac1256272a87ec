#!/bin/sh
# Stands in for uv while the image is built. BentoML's Dockerfile would install uv into a layer of its own, 40 MB that
# serve nobody, and leave no place to tidy up in the layer that installs the packages. This makes the virtual environment
# and installs into it with what the base image has, and takes itself away.
set -eu
venv=/app/.venv
case "$1" in
venv)
  python3 -m venv --without-pip "$venv"
  ;;
--directory) # uv --directory FOLDER pip install -r FILE
  "$(readlink -f "$venv/bin/python")" -m pip --python "$venv/bin/python" install --no-cache-dir --no-compile --disable-pip-version-check -r "$6"
  cd "$venv"/lib/python3.*/site-packages
  # What the service never loads: tests, tools that make graphs, a second copy of the runtime for C programs, sources.
  find . -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
  rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets numpy/f2py
  rm -f onnxruntime/capi/libonnxruntime.so.* pygments/lexers/[a-z]*.py
  find . -type f \( -name '*.c' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.h' \) -delete
  # Only what is imported is compiled: the file system may be read-only when it runs.
  "$venv/bin/python" -c "import bentoml, _bentoml_impl.worker.service, _bentoml_impl.server, bentoml_cli.cli, onnxruntime, uvloop, httptools"
  rm -f "$0"
  ;;
esac
