# The main job in a container: docker build -t mlflow-carbon . && docker run --rm mlflow-carbon
# Runs and artifacts stay inside unless a folder is mounted: -v "$PWD/out:/home/carbon/project/out" and
# -e MLFLOW_TRACKING_URI=sqlite:///out/mlflow.db. Measuring needs the host's meters passed in: --gpus all for NVML, and
# -v /sys/class/powercap:/sys/class/powercap:ro -v /sys/devices/virtual/powercap:/sys/devices/virtual/powercap:ro for RAPL
# (readable by others on the host); without them energy is modelled and says so.
FROM python:3.11.7-slim-bookworm

# git: MLflow and the provenance tags read the commit of the checkout.
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home carbon
USER carbon
WORKDIR /home/carbon/project
ENV PATH=/home/carbon/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN python -m venv /home/carbon/venv

# The plain package index serves torch with CUDA (gigabytes; it runs without a GPU too). For the small CPU build give an
# index or a folder of wheels that has it: --build-arg PIP_EXTRA_INDEX_URL=<PyTorch's CPU index> or PIP_FIND_LINKS=<url>.
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
COPY --chown=carbon:carbon requirements.lock ./
RUN pip install --no-cache-dir --requirement requirements.lock

COPY --chown=carbon:carbon . ./
RUN pip install --no-cache-dir --no-deps --editable .

CMD ["mlflow", "run", ".", "--env-manager", "local", "-P", "accum=4"]
