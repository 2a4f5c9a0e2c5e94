"""Nobody fills a disk: a file that is sent is kept nowhere."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client


@pytest.mark.django_db
def test_a_file_that_is_sent_is_kept_nowhere() -> None:
    """Django writes one of 2.5 MB and more into the directory of temporary files, for whoever
    sends it, before anybody has signed in.

    Fails when settings name a handler of uploads.
    """
    file = SimpleUploadedFile("f", b"x" * 3_000_000)
    answer = Client(enforce_csrf_checks=True).post("/login/", {"username": "u", "file": file})
    assert answer.status_code == 403
    assert answer.wsgi_request.POST["username"] == "u"
    assert answer.wsgi_request.FILES == {}
