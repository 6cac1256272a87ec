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
  # What the service never loads: tests, tools that make graphs, a second copy of the runtime for C programs, sources,
  # time zones, which the base image has.
  find . -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
  rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets numpy/f2py numpy/distutils tzdata/zoneinfo
  rm -f onnxruntime/capi/libonnxruntime.so.* pygments/lexers/[a-z]*.py pygments/lexers/_*_builtins.py numpy/_core/_simd.*.so numpy/_core/_*_tests.*.so
  find . -type f \( -name '*.c' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.h' -o -name '*.a' \) -delete
  # Only what serving loads is compiled, by serving once: the file system may be read-only later. The rest would be 40 MB.
  cd "$(mktemp -d)"
  printf '%s\n' 'import bentoml, bentoml.images, onnxruntime, prometheus_client' '@bentoml.service' 'class Warm: pass' >service.py
  BENTOML_HOME=$PWD BENTOML_DO_NOT_TRACK=True "$venv/bin/python" -m bentoml serve --host 127.0.0.1 --port 3000 &
  timeout 60 "$venv/bin/python" -c '
import time, urllib.request
while True:
    try: urllib.request.urlopen("http://127.0.0.1:3000/readyz", timeout=1); break
    except OSError: time.sleep(0.1)'
  kill "$!" && wait "$!"
  rm -rf "$PWD"
  rm -f "$0"
  ;;
esac
