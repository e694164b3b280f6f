# An image that holds the workflow and all that its jobs need, in the versions of requirements.lock. See docs/containers.md.
#     docker build --tag twin-merging .                          for machines without a GPU
#     docker build --tag twin-merging --build-arg TORCH=cu128 .  for GPUs: a folder of https://download.pytorch.org/whl
#     docker run --rm --volume "$PWD:/project" twin-merging --cores 4 --directory /project
# To tie the base to its bytes: --build-arg BASE=docker.io/library/python@sha256:...
ARG BASE=docker.io/library/python:3.11-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE}

# git: Snakemake asks it for the files that jobs on other machines need, and a record names the commit.
# Its version is that of the base's Debian, which keeps no older ones to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 twin \
    && mkdir /project \
    && chown twin: /project

WORKDIR /opt/twin-merging

# What is needed, at the versions of the lock. Of two builds of one version of torch, pip takes the one with the longer name,
# such as 2.13.0+cpu.
ARG TORCH=cpu
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --constraint requirements.lock --extra-index-url "https://download.pytorch.org/whl/${TORCH}" ".[s3]" \
    && pip check

COPY Snakefile environment.yml environment-lm-eval.yml requirements-lm-eval.lock ./
COPY workflow ./workflow
COPY profiles ./profiles
COPY config ./config

# Nothing is written here: results lie in the folder that --directory names.
USER 1000
ENV HF_HOME=/home/twin/huggingface
ENTRYPOINT ["snakemake"]
CMD ["--help"]
