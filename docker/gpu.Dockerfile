# The Labeller on GPUs. The same Python and the same Ray as the CPU image: both are nodes of one Ray cluster.
#   docker build --file docker/gpu.Dockerfile --build-arg COMMIT=... --tag labelstream-gpu:0.1.0 .
#
# CUDA's libraries come with the wheels, the driver with the node's container runtime: CUDA 13 needs R580 or newer.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/labelstream
COPY docker/requirements-gpu.txt /build/
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    /opt/labelstream/bin/pip install --no-deps --requirement /build/requirements-gpu.txt
WORKDIR /build/source
COPY . .
RUN /opt/labelstream/bin/pip install --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
# Triton and torch.compile compile small launchers when a model starts: the one in C, the other in C++.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ gcc libc6-dev libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 labelstream \
    && useradd --uid 1000 --gid 1000 --create-home labelstream
COPY --from=build /opt/labelstream /opt/labelstream
# For the manifests of the models that are made here: an image has no git that could be asked.
ARG COMMIT=
ENV PATH=/opt/labelstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LABELSTREAM_REGISTRY_COMMIT=$COMMIT \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/labelstream
USER 1000:1000
CMD ["labelstream", "--help"]
