# The image in which the pipeline itself runs, for a scheduler: docker build --file deploy/pipeline.Dockerfile --tag pipeline .
# It runs as any user and writes to /store, /pipeline/runs and /tmp alone.
ARG BASE=python:3.11-slim
FROM ${BASE}
WORKDIR /pipeline
COPY requirements.txt .
RUN grep -v "^-e" requirements.txt > /tmp/locked.txt && pip install --no-cache-dir "$(grep "^uv==" /tmp/locked.txt)" \
 && uv pip install --system --no-cache --compile-bytecode --requirement /tmp/locked.txt && rm /tmp/locked.txt
COPY README.md pyproject.toml pipeline.py service.py bentofile.yaml requirements-serve.txt ./
COPY modeler modeler
COPY notebooks/*.ipynb notebooks/
RUN uv pip install --system --no-cache --no-deps --editable . && mkdir /store runs && chown 12345:12345 /store runs
ENV BENTOML_HOME=/store BENTOML_DO_NOT_TRACK=True HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 12345:12345
ENTRYPOINT ["python", "pipeline.py"]
