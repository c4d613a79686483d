# Plain steps on purpose: each RUN line also works by hand in a directory with these files.
FROM python:3.12-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# Two environments: the tools that build the package stay behind, and so does pip.
RUN python -m venv /tools && python -m venv --without-pip /venv
COPY requirements.lock requirements-s3.lock requirements-demo.lock ./
# For pictures in a bucket, previews and OpenID sign-in: docker build --build-arg LOCK=requirements-s3.lock
ARG LOCK=requirements.lock
# Wheels only: nothing is compiled.
RUN /tools/bin/pip --python /venv/bin/python install --only-binary :all: --require-hashes -r $LOCK \
    && /tools/bin/pip install --only-binary :all: --require-hashes -r requirements-demo.lock
COPY pyproject.toml README.md ./
COPY app ./app
# The build backend is in the lock: nothing unhashed is downloaded.
RUN /tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /tools/bin/pip --python /venv/bin/python install --no-deps /wheels/*.whl

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KOI_DATA_DIR=/data \
    KOI_HOST=0.0.0.0
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin koi \
    && install -d -o koi -g koi -m 0700 /data \
    && rm -rf /usr/local/lib/python3.12/site-packages/pip* /usr/local/bin/pip*
COPY --from=builder /venv /venv
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Drain: finish what is paid for. Give it KOI_DRAIN_TIMEOUT_S + 10 s before SIGKILL.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('KOI_PORT', '8000')}/livez\", timeout=4)"]
ENTRYPOINT ["koi"]
CMD ["serve"]
