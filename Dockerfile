# One image for every process of kedge: the command says which.

FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/kedge
WORKDIR /src

# Dependencies first: they change seldom, and this layer is the slow one.
COPY requirements.lock ./
RUN /opt/kedge/bin/pip install --require-hashes --requirement requirements.lock

COPY pyproject.toml LICENSE ./
COPY kedge ./kedge
COPY ingest ./ingest
COPY workers ./workers
COPY index_templates ./index_templates
COPY rules ./rules
RUN /opt/kedge/bin/pip install --no-deps .


FROM python:3.11.14-slim-bookworm

ENV PATH=/opt/kedge/bin:$PATH PYTHONUNBUFFERED=1 KEDGE_HOST=0.0.0.0 KEDGE_PORT=8321
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/kedge kedge
COPY --from=build /opt/kedge /opt/kedge
USER kedge
WORKDIR /var/lib/kedge
EXPOSE 8321

# For the processes that listen; worker and beat override it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=4 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['KEDGE_PORT']}/healthz\", timeout=4)"]

CMD ["kedge", "serve"]
