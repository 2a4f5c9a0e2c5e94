"""The roles of the web server and of writers have all privileges that these need."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import redis
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection
from django.test import Client
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_subscription, refresh_totals
from tests.given import given
from tests.logins import django_as, login_in
from tests.usage.importing import counts, imported, write_records
from usage.models import DataUsageRecord, Subscription


class TestWriter:
    @pytest.fixture(autouse=True)
    def as_writer(self, state: None) -> Iterator[None]:
        """Let Django log in as a member of usage_writer; A is a subscription with usage."""
        given("data  A  2026-11-01T10:00:00Z  1.25  10")
        self.owner = connection.settings_dict["USER"]
        with login_in("usage_writer") as login, django_as(login):
            yield

    def test_writes_records_through_the_orm(self) -> None:
        a = Subscription.objects.get(external_id="A")
        record = data_record(a, "2026-11-02T10:00:00Z", price="2", kilobytes=20)
        DataUsageRecord.objects.bulk_create(
            [DataUsageRecord(subscription=a, usage_date=record.usage_date, kilobytes_used=1)]
        )
        record.usage_date = datetime(2026, 11, 3, tzinfo=UTC)
        record.save()
        DataUsageRecord.objects.filter(kilobytes_used=1).delete()
        data_record(make_subscription("B"), "2026-11-04T10:00:00Z")
        assert list(
            DataUsageRecord.objects.order_by("usage_date").values_list(
                "subscription__external_id", "price"
            )
        ) == [("A", Decimal("1.25")), ("A", Decimal(2)), ("B", Decimal(0))]

    @pytest.mark.one_server("it counts records already known as added")
    def test_imports_a_file(self, tmp_path: Path) -> None:
        path = write_records(
            tmp_path / "usage.csv",
            "data,A,2026-11-01T10:00:00Z,0.5,1,k1",
            "voice,new,2026-11-01T10:00:00Z,0.5,60,k2",
        )
        assert counts(imported(path)) == (2, 2, 0, 0)
        assert counts(imported(path)) == (2, 0, 2, 0)

    @pytest.mark.one_server("no record comes late there")
    def test_late_changes_are_noted_in_a_log_it_cannot_read(self) -> None:
        with second_session(autocommit=True, user=self.owner) as owner:
            ask(owner, "SELECT setval('usage_logging_before', date '2026-11-05' - '1999-12-31')")
            DataUsageRecord.objects.update(price=3)
            assert ask(owner, "SELECT day::text, usage_type FROM usage_late_key") == [
                ("2026-11-01", "data"),
                ("2026-11-01", "data"),
            ]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE usage_subscription SET external_id = 'B'",
            "UPDATE usage_subscription SET owner_id = NULL",
            "DELETE FROM usage_subscription",
        ],
    )
    def test_makes_subscriptions_and_leaves_them_as_they_are(self, statement: str) -> None:
        with pytest.raises(DatabaseError, match="permission denied for table usage_subscription"):
            run_sql(statement)


class TestWeb:
    @pytest.fixture(autouse=True)
    def as_web(self, state: None, client_with_token: APIClient) -> Iterator[None]:
        """Let Django log in as a member of usage_web, in a database with one refreshed total."""
        given("data  A  2026-11-01T10:00:00Z  1.25  10")
        refresh_totals()
        self.client = client_with_token
        with login_in("usage_web") as login, django_as(login):
            yield

    @pytest.mark.parametrize(
        "query",
        [
            "usage/over-limit/?price_limit=1",
            "usage/over-limit/?price_limit=1&month=2026-11",
            "usage/over-limit/?price_limit=1&from_date=2026-11-01&to_date=2026-11-02",
            "usage/totals/?external_id=A",
            "usage/totals/?external_id=A&live=true",
            "usage/daily/?month=2026-11",
            "usage/daily/?external_id=A&live=true",
            "usage/daily/?format=csv",
            "usage/records/?subscription_id={id}&usage_type=data&day=2026-11-01",
            "subscriptions/?external_id=A",
        ],
    )
    def test_serves_every_query(self, query: str) -> None:
        pk = Subscription.objects.get(external_id="A").pk
        response = self.client.get(f"/api/v1/{query.format(id=pk)}")
        assert response.status_code == 200
        body = response.getvalue()
        assert b"2026-11-01" in body or b"1.25" in body or b'"A"' in body

    def test_writes_the_tables_of_django(self) -> None:
        users = get_user_model().objects
        user = users.create_user("somebody", password="a password of a test")
        user.first_name = "Some"
        user.save()
        Subscription.objects.update(owner=user)
        assert users.get(username="somebody").first_name == "Some"
        user.delete()
        assert Subscription.objects.get().owner is None

    def test_people_sign_in_request_a_refresh_and_sign_out(
        self, broker: redis.Redis, settings: LazySettings
    ) -> None:
        number = broker.get_connection_kwargs()["db"]
        settings.REDIS_URL = f"{settings.REDIS_URL.rpartition('/')[0]}/{number}"
        get_user_model().objects.create_user("olga", password="of a test", is_staff=True)
        person = Client()
        signed_in = person.post("/login/", {"username": "olga", "password": "of a test"})
        assert signed_in.status_code == 302
        for page in ["/", "/over-limit/?price_limit=1", "/refreshes/", "/health/ready"]:
            assert person.get(page).status_code == 200, page
        assert person.post("/api/v1/refreshes/", content_type="application/json").status_code == 202
        assert person.get("/api/v1/refreshes/").json()["results"][0]["status"] == "queued"
        assert person.post("/logout/").status_code == 302
        assert person.get("/api/v1/refreshes/").status_code == 401
        assert person.post("/login/", {"username": "olga", "password": "x"}).status_code == 200

    def test_changes_no_usage(self) -> None:
        with pytest.raises(DatabaseError, match="permission denied for table usage_data"):
            DataUsageRecord.objects.update(price=3)
        with pytest.raises(DatabaseError, match="permission denied for table usage_subscription"):
            make_subscription("B")
