# A node of a Ray cluster, head or worker, that can run `python -m tuning.launch`; also the MLflow server.
# CUDA comes with torch's wheels, the driver from the machine: docker build --tag ray-image-tuning:0.1.0 .
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cluster cluster
COPY datasets datasets
COPY models models
COPY search_spaces search_spaces
COPY tuning tuning
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:3.11-slim-bookworm
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# KubeRay's probes call wget, Ray's dashboard reads processes
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray
# Dependencies in a layer of their own: 5 GB that a change of our code does not send again.
WORKDIR /build
COPY constraints.txt pyproject.toml ./
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["cluster"], sep="\n")' > requirements.txt \
    && pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt
COPY --from=wheel /dist /build/dist
RUN pip install --no-cache-dir --no-deps dist/*.whl
USER 1000
WORKDIR /home/ray
ENV MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0
CMD ["python", "-m", "tuning.launch", "--help"]
