# The page and REST over the champion: `docker build -t dermonas .`, then see docs/container.md.
# One Python for both stages: an environment cannot be moved between two.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /opt/dermonas
COPY requirements.txt requirements-container.txt /build/
# The index holds torch without CUDA, a tenth of the size; pip takes "2.14.1+cpu" for 2.14.1.
RUN /opt/dermonas/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu \
    -r /build/requirements-container.txt

FROM python:${PYTHON}
ENV PATH=/opt/dermonas/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
    GIT_PYTHON_REFRESH=quiet HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --system --uid 10001 --no-create-home dermonas && install -d -o dermonas /work
COPY --from=build /opt/dermonas /opt/dermonas
COPY dermonas /app/dermonas
COPY pipelines /app/pipelines
COPY models /app/models
USER 10001
WORKDIR /work
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
# Further keys of `app` follow the image's name: docker run dermonas --model models:/dermonas-isic2019@champion
ENTRYPOINT ["python", "-m", "pipelines.app", "--host", "0.0.0.0", "--port", "8080"]
