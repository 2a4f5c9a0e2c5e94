"""No query, however odd, makes the server fail: it returns rows or names the faults."""

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from tests.usage.api.api_requests import LISTS, fill_totals, get
from usage.lists import filters

NAMES = sorted(
    {
        name
        for filterset in (
            filters.DailyFilter,
            filters.OverLimitFilter,
            filters.RecordFilter,
            filters.SubscriptionFilter,
        )
        for name in filterset.base_filters
    }
)

likely = st.one_of(
    st.integers().map(str),
    st.decimals().map(str),
    st.dates().map(str),
    st.dates().map(lambda day: str(day)[:7]),
    st.lists(st.integers(-1, 2**64).map(str), max_size=300).map(",".join),
    st.sampled_from(
        [
            "data",
            "voice",
            "true",
            "false",
            "day",
            "-day",
            "NaN",
            "1e400",
            "\u0663",
            "\0",
            "",
            "%",
            "%s",
        ]
    ),
)
anything = st.one_of(
    likely.map(str.encode),
    st.text(max_size=120).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=120),
)
names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.text(max_size=8))
pairs = st.lists(st.tuples(names, anything), max_size=8).map(
    lambda parts: "&".join(
        f"{quote_from_bytes(name.encode('utf-8', 'surrogatepass'))}={quote_from_bytes(value)}"
        for name, value in parts
    )
)
raw = st.binary(max_size=200).map(lambda noise: noise.decode("latin-1"))


@pytest.fixture(autouse=True)
def totals(db: None) -> None:
    fill_totals()


@pytest.mark.parametrize(("path", "required"), LISTS.items())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(query=st.one_of(pairs, pairs, raw), complete=st.booleans())
def test_no_query_makes_the_server_fail(
    client_with_token: APIClient, path: str, required: str, query: str, complete: bool
) -> None:
    response = get(client_with_token, path, f"{required}&{query}" if complete else query)
    body = response.json()
    if response.status_code == 503:
        assert [error["code"] for error in body["errors"]] == ["totals_too_old"]
        return
    assert response.status_code in {200, 400}, response.content
    if response.status_code == 400:
        assert {"type", "errors"} == set(body)
        assert all(error["detail"] for error in body["errors"])
