# The image of a pod: wtsbench with its command line and its store, Ray, and what a trial needs. docs/kubernetes.md says
# where it is used. In the folder of the checkout:
#
#     docker build -f containers/cluster.Dockerfile -t REPOSITORY:TAG .
#
# BASE is any image of Debian with Python 3.11 or newer at `python3` and its venv module. TORCH_INDEX_URL may name a
# further index that has another build of torch, as in the Makefile; TORCH_BUILD is then what it is called (+cpu).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
# KubeRay starts Ray with bash, and some of its versions look with wget whether it is well.
RUN apt-get update && apt-get install -y --no-install-recommends bash wget && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX_URL=
ARG TORCH_BUILD=
COPY pyproject.toml constraints.txt README.md LICENSE /build/
COPY benchmark /build/benchmark
COPY cli /build/cli
COPY containers /build/containers
COPY manifests /build/manifests
RUN python3 -m venv /opt/wtsbench \
    && cd /build && export PIP_CONSTRAINT=constraints.txt \
    && /opt/wtsbench/bin/python -m pip install --no-cache-dir ${TORCH_INDEX_URL:+--extra-index-url=$TORCH_INDEX_URL} \
        "torch==$(sed -n 's/^torch==//p' constraints.txt)${TORCH_BUILD}" ".[cluster]" \
    && rm -rf /build
ENV PATH=/opt/wtsbench/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
USER 10001:10001
WORKDIR /tmp
CMD ["wtsbench", "--help"]
