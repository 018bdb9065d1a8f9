# The application on the CPU, and every command of labelstream. From the repository's root:
#   docker build --file docker/cpu.Dockerfile --build-arg COMMIT=... --tag labelstream-cpu:0.1.0 .
#
# PyTorch's CPU wheels lie on an index of their own (docs/operations.md, "Install"). Name it in a pip.conf and hand it
# over as a secret, which ends up in no layer: --secret id=pip-conf,src=pip.conf
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/labelstream
COPY requirements/cpu.txt /build/
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    /opt/labelstream/bin/pip install --no-deps --requirement /build/cpu.txt
WORKDIR /build/source
COPY . .
RUN /opt/labelstream/bin/pip install --no-deps --no-build-isolation .

FROM ${PYTHON_IMAGE}
# vLLM's CPU build asks for libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 labelstream \
    && useradd --uid 1000 --gid 1000 --create-home labelstream
COPY --from=build /opt/labelstream /opt/labelstream
# For the manifests of the models that are made here: an image has no git that could be asked.
ARG COMMIT=
ENV PATH=/opt/labelstream/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LABELSTREAM_REGISTRY_COMMIT=$COMMIT
WORKDIR /home/labelstream
USER 1000:1000
CMD ["labelstream", "--help"]
