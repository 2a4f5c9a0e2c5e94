"""Uploads cannot fill a disk: no file of a request is stored."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client


@pytest.mark.django_db
def test_an_uploaded_file_is_not_stored() -> None:
    """Fails when settings have an upload handler: Django then writes a file of 2.5 MB or more to
    the temporary directory, also for a client that is not signed in.
    """
    file = SimpleUploadedFile("f", b"x" * 3_000_000)
    response = Client(enforce_csrf_checks=True).post("/login/", {"username": "u", "file": file})
    assert response.status_code == 403
    assert response.wsgi_request.POST["username"] == "u"
    assert response.wsgi_request.FILES == {}
