# The service alone. Build: docker build -t notifier .   To run it, see compose.yaml and docs/deploy.md.
# Any Python from 3.11 on. `make pin` adds the digest of what the tag names today: docs/deploy.md, "The image".
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
# notifier/client is a link to client/.
COPY client client
COPY django_bridge django_bridge
COPY notifier notifier
# Without pip, which the service does not need. `make sbom` and `make audit` install in the same way.
RUN python -m venv --without-pip /opt/notifier && python -m pip --python /opt/notifier/bin/python install ".[server]"

FROM ${BASE}
ENV PATH=/opt/notifier/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/notifier /opt/notifier
# The place for a volume: with NOTIFIER_DATA_DIR=/var/lib/notifier and without a broker's address, the events are in it.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/notifier
# A number, so that Kubernetes can check that it is not root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Exec form: SIGTERM reaches the service, which then drains. Wait longer than NOTIFIER_DRAIN_S (docker stop -t).
ENTRYPOINT ["notifier"]
CMD ["serve", "--host", "0.0.0.0"]
