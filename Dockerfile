# syntax=docker/dockerfile:1
# LiSeg with a model inside, by the contract of the CARE-Liver challenge: reads /input, writes /output,
# needs no network.
#
#   liseg bundle runs/cps -o model.liseg
#   docker build -t liseg .                                  # CPU
#   docker build -t liseg --build-arg FLAVOUR=cuda .         # CUDA
#   docker run --rm --network none --user $(id -u):$(id -g) -v $PWD/in:/input:ro -v $PWD/out:/output liseg
#
# With CUDA add `--gpus all` to `docker run`. Any other verb: `docker run … liseg predict --help`.

ARG FLAVOUR=cpu

FROM rust:1-bookworm AS build
ARG FLAVOUR
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
# The pinned libtorch, from the wheel: the CPU one has 200 MB, that with CUDA several GB.
RUN python3 -m venv /opt/torch \
 && if [ "$FLAVOUR" = cuda ]; then \
      /opt/torch/bin/pip install --no-cache-dir torch==2.11.0; \
    else \
      /opt/torch/bin/pip install --no-cache-dir torch==2.11.0 \
        --index-url https://download.pytorch.org/whl/cpu; \
    fi \
 && mkdir -p /opt/lib \
 && mv /opt/torch/lib/python3.11/site-packages/torch /opt/lib/torch \
 && { mv /opt/torch/lib/python3.11/site-packages/nvidia /opt/lib/nvidia || mkdir /opt/lib/nvidia; }
ENV LIBTORCH=/opt/lib/torch
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p liseg \
 && mkdir -p /opt/liseg/bin \
 && cp target/release/liseg /opt/liseg/bin/liseg
# What only building needs.
RUN find /opt/lib/torch -mindepth 1 -maxdepth 1 ! -name lib -exec rm -r {} + \
 && find /opt/lib/torch/lib -name '*.a' -delete

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
# The wheel's libraries find each other by their places: torch/lib beside nvidia/*/lib.
COPY --from=build /opt/lib /opt/lib
COPY --from=build /opt/liseg /opt/liseg
ENV PATH=/opt/liseg/bin:$PATH LD_LIBRARY_PATH=/opt/lib/torch/lib
ARG MODEL=model.liseg
COPY ${MODEL} /opt/liseg/model.liseg
# Fails here, not at the organisers', when a library is missing or the bundle is damaged.
RUN liseg --version && liseg bundle --check /opt/liseg/model.liseg
# An ordinary user; `docker run --user` takes another, such as the one to whom the folder for /output belongs.
RUN useradd --create-home liseg && install --directory --owner liseg /input /output
USER liseg
ENTRYPOINT ["liseg"]
CMD ["submit", "--input", "/input", "--output", "/output", "--model", "/opt/liseg/model.liseg"]
