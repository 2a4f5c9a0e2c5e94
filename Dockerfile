# One image for web, worker, beat and migrate. docker-compose.yml builds and starts it.
# The version of the base image is exact; docs/operations.md says how to add the digest of the image.
FROM python:3.13.14-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin usage

WORKDIR /app

# Packages come before the code, so that a change of the code does not install them again.
COPY requirements.lock .
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

COPY manage.py .
COPY config config
COPY usage usage
COPY worker worker
RUN python -m compileall -q config usage worker

USER 10001:10001
EXPOSE 8000

# The same command as in bin/processes.py; tests/test_compose.py compares them.
CMD ["gunicorn", "config.wsgi", "--config", "python:config.gunicorn", "--name", "usage", "--bind", "0.0.0.0:8000"]
