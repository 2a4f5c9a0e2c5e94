"""The rules of the daily totals, each by raw records and the exact rows expected."""

import pytest
from django.db import connection

from tests.connections import run_sql
from tests.given import expect, given
from usage import sql
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord


@pytest.mark.usefixtures("state")
class TestRules:
    def test_no_records_give_no_rows(self) -> None:
        expect("")

    def test_midnight_belongs_to_the_day_that_begins(self) -> None:
        given("""
            data  A  2026-11-01T23:59:59.999999Z  0.10  1
            data  A  2026-11-02T00:00:00Z         0.20  2
            data  A  2026-11-02T00:00:00.000001Z  0.40  4
            data  A  2026-11-02T23:59:59.999999Z  0.80  8
            data  A  2026-11-03T00:00:00Z         1.60  16
        """)
        expect("""
            A  2026-11-01  data  0.10  1   1  2026-11-01T23:59:59.999999Z
            A  2026-11-02  data  1.40  14  3  2026-11-02T23:59:59.999999Z
            A  2026-11-03  data  1.60  16  1  2026-11-03T00:00:00Z
        """)

    def test_offset_of_a_record_does_not_choose_its_day(self) -> None:
        given("""
            voice  A  2026-11-02T01:30:00+02:00  1.00  10
            voice  A  2026-11-01T19:30:00-04:00  2.00  20
            voice  A  2026-11-01T20:00:00-04:00  4.00  40
            voice  A  2026-11-02T05:29:59+05:30  8.00  80
            voice  A  2026-11-02T14:00:00+14:00  9.00  90
        """)
        expect("""
            A  2026-11-01  voice  11.00  110  3  2026-11-01T23:59:59Z
            A  2026-11-02  voice  13.00  130  2  2026-11-02T00:00:00Z
        """)

    def test_month_and_year_end_between_two_days(self) -> None:
        given("""
            data  A  2026-11-30T23:59:59Z  1  1
            data  A  2026-12-01T00:00:00Z  2  2
            data  A  2026-12-31T23:59:59Z  3  3
            data  A  2027-01-01T00:00:00Z  4  4
        """)
        expect("""
            A  2026-11-30  data  1  1  1  2026-11-30T23:59:59Z
            A  2026-12-01  data  2  2  1  2026-12-01T00:00:00Z
            A  2026-12-31  data  3  3  1  2026-12-31T23:59:59Z
            A  2027-01-01  data  4  4  1  2027-01-01T00:00:00Z
        """)

    def test_leap_day_is_a_day_of_its_own(self) -> None:
        given("""
            data  A  2028-02-28T23:59:59Z  1  1
            data  A  2028-02-29T00:00:00Z  2  2
            data  A  2028-02-29T23:59:59Z  4  4
            data  A  2028-03-01T00:00:00Z  8  8
            data  A  2027-02-28T23:59:59Z  5  5
            data  A  2027-03-01T00:00:00Z  6  6
        """)
        expect("""
            A  2027-02-28  data  5  5  1  2027-02-28T23:59:59Z
            A  2027-03-01  data  6  6  1  2027-03-01T00:00:00Z
            A  2028-02-28  data  1  1  1  2028-02-28T23:59:59Z
            A  2028-02-29  data  6  6  2  2028-02-29T23:59:59Z
            A  2028-03-01  data  8  8  1  2028-03-01T00:00:00Z
        """)

    def test_first_and_last_moment_that_a_record_may_have(self) -> None:
        given("""
            data  A  2000-01-01T00:00:00Z         1  1
            data  A  2099-12-31T23:59:59.999999Z  2  2
        """)
        expect("""
            A  2000-01-01  data  1  1  1  2000-01-01T00:00:00Z
            A  2099-12-31  data  2  2  1  2099-12-31T23:59:59.999999Z
        """)

    def test_each_subscription_has_its_own_rows(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z  1  10
            data  B  2026-11-01T10:00:00Z  2  20
            data  B  2026-11-01T10:00:00Z  4  40
        """)
        expect("""
            A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z
            B  2026-11-01  data  6  60  2  2026-11-01T10:00:00Z
        """)

    def test_types_are_never_added_together(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z  1  10
            voice  A  2026-11-01T11:00:00Z  2  20
        """)
        expect("""
            A  2026-11-01  data   1  10  1  2026-11-01T10:00:00Z
            A  2026-11-01  voice  2  20  1  2026-11-01T11:00:00Z
        """)

    def test_only_one_type_gives_only_its_row(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z  1  10
            voice  B  2026-11-01T11:00:00Z  2  20
        """)
        expect("""
            A  2026-11-01  data   1  10  1  2026-11-01T10:00:00Z
            B  2026-11-01  voice  2  20  1  2026-11-01T11:00:00Z
        """)

    def test_zero_price_and_zero_quantity_are_usage(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z  0     5
            data   B  2026-11-01T10:00:00Z  0.25  0
            voice  C  2026-11-01T10:00:00Z  0     0
        """)
        expect("""
            A  2026-11-01  data   0     5  1  2026-11-01T10:00:00Z
            B  2026-11-01  data   0.25  0  1  2026-11-01T10:00:00Z
            C  2026-11-01  voice  0     0  1  2026-11-01T10:00:00Z
        """)

    def test_credit_is_subtracted_and_may_leave_a_negative_price(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z   5.00  50
            data   A  2026-11-01T12:00:00Z  -1.50  0
            voice  A  2026-11-01T11:00:00Z  -2.25  0
        """)
        expect("""
            A  2026-11-01  data    3.50  50  2  2026-11-01T12:00:00Z
            A  2026-11-01  voice  -2.25  0   1  2026-11-01T11:00:00Z
        """)

    def test_credit_that_cancels_a_price_leaves_a_row_of_zero(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z   5.00000001  50
            data  A  2026-11-01T09:00:00Z  -5.00000001  0
        """)
        expect("A  2026-11-01  data  0  50  2  2026-11-01T10:00:00Z")

    def test_a_cent_ten_thousand_times_is_exactly_a_hundred(self) -> None:
        given("data  A  2026-11-01T00:00:00Z  0.01  1")
        run_sql(
            "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
            " SELECT subscription_id, usage_date + number * interval '1 second', 0.01, 1"
            " FROM usage_datausagerecord, generate_series(1, 9999) AS numbers (number)"
        )
        expect("A  2026-11-01  data  100.00  10000  10000  2026-11-01T02:46:39Z")

    def test_eight_decimals_are_kept(self) -> None:
        given("""
            voice  A  2026-11-01T10:00:00Z  0.00000001  1
            voice  A  2026-11-01T10:00:01Z  0.00000001  1
            voice  A  2026-11-01T10:00:02Z  0.12345678  1
            voice  B  2026-11-01T10:00:00Z  123456789012.00000001  1
            voice  B  2026-11-01T10:00:01Z  0.99999998  1
        """)
        expect("""
            A  2026-11-01  voice  0.12345680             3  3  2026-11-01T10:00:02Z
            B  2026-11-01  voice  123456789012.99999999  2  2  2026-11-01T10:00:01Z
        """)

    def test_quantities_beyond_32_bits_are_added(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z  0  2147483647
            data   A  2026-11-01T10:00:01Z  0  2147483647
            data   A  2026-11-01T10:00:02Z  0  3
            data   B  2026-11-01T10:00:00Z  0  4294967296
            data   B  2026-11-01T10:00:01Z  0  4294967296
            voice  B  2026-11-01T10:00:01Z  0  4294967296
        """)
        expect("""
            A  2026-11-01  data   0  4294967297     3  2026-11-01T10:00:02Z
            B  2026-11-01  data   0  8589934592  2  2026-11-01T10:00:01Z
            B  2026-11-01  voice  0  4294967296     1  2026-11-01T10:00:01Z
        """)

    def test_prices_beyond_ten_digits_are_added(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z   999999999999.99999999  1
            data  A  2026-11-01T10:00:01Z   999999999999.99999999  1
            data  A  2026-11-01T10:00:02Z              0.00000003  1
            data  B  2026-11-01T10:00:00Z  -999999999999.99999999  1
            data  B  2026-11-01T10:00:01Z  -999999999999.99999999  1
        """)
        expect("""
            A  2026-11-01  data   2000000000000.00000001  3  3  2026-11-01T10:00:02Z
            B  2026-11-01  data  -1999999999999.99999998  2  2  2026-11-01T10:00:01Z
        """)

    def test_same_moment_and_price_twice_counts_twice(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z  1.5  7
            data  A  2026-11-01T10:00:00Z  1.5  7
        """)
        expect("A  2026-11-01  data  3.0  14  2  2026-11-01T10:00:00Z")

    def test_deleted_record_leaves_the_totals(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z  1  10
            data  A  2026-11-01T12:00:00Z  2  20
        """)
        expect("A  2026-11-01  data  3  30  2  2026-11-01T12:00:00Z")
        DataUsageRecord.objects.get(price=2).delete()
        expect("A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z")

    def test_row_vanishes_with_its_last_record(self) -> None:
        given("""
            data   A  2026-11-01T10:00:00Z  1  10
            voice  A  2026-11-01T10:00:00Z  2  20
        """)
        expect("""
            A  2026-11-01  data   1  10  1  2026-11-01T10:00:00Z
            A  2026-11-01  voice  2  20  1  2026-11-01T10:00:00Z
        """)
        DataUsageRecord.objects.all().delete()
        expect("A  2026-11-01  voice  2  20  1  2026-11-01T10:00:00Z")

    @pytest.mark.one_server("it moves no record to another subscription")
    def test_record_moved_to_another_subscription_counts_there_alone(self) -> None:
        given("""
            voice  A  2026-11-01T10:00:00Z  1  10
            voice  A  2026-11-01T12:00:00Z  2  20
            voice  B  2026-11-01T11:00:00Z  4  40
        """)
        expect("""
            A  2026-11-01  voice  3  30  2  2026-11-01T12:00:00Z
            B  2026-11-01  voice  4  40  1  2026-11-01T11:00:00Z
        """)
        VoiceUsageRecord.objects.filter(price=2).update(
            subscription=Subscription.objects.get(external_id="B")
        )
        expect("""
            A  2026-11-01  voice  1  10  1  2026-11-01T10:00:00Z
            B  2026-11-01  voice  6  60  2  2026-11-01T12:00:00Z
        """)

    def test_record_moved_to_another_day_counts_there_alone(self) -> None:
        given("""
            data  A  2026-11-01T10:00:00Z  1  10
            data  A  2026-11-01T12:00:00Z  2  20
        """)
        expect("A  2026-11-01  data  3  30  2  2026-11-01T12:00:00Z")
        DataUsageRecord.objects.filter(price=2).update(usage_date="2026-12-24T00:00:00Z")
        expect("""
            A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z
            A  2026-12-24  data  2  20  1  2026-12-24T00:00:00Z
        """)

    def test_last_usage_moves_back_with_a_corrected_moment(self) -> None:
        given("data  A  2026-11-01T12:00:00Z  1  10")
        expect("A  2026-11-01  data  1  10  1  2026-11-01T12:00:00Z")
        DataUsageRecord.objects.update(usage_date="2026-11-01T09:00:00Z")
        expect("A  2026-11-01  data  1  10  1  2026-11-01T09:00:00Z")


@pytest.mark.django_db
def test_days_follow_a_zone_with_summer_time() -> None:
    """In London 29 March 2026 has 23 hours, and 25 October has 25."""
    with connection.cursor() as cursor:  # the end of the test rolls this back
        cursor.execute("SELECT set_config('usage.time_zone', 'Europe/London', true)")
        cursor.execute(sql.read("usage_day", 1))
    given("""
        data  A  2026-03-28T23:59:59Z  1    1
        data  A  2026-03-29T00:00:00Z  2    1
        data  A  2026-03-29T22:59:59Z  4    1
        data  A  2026-03-29T23:00:00Z  8    1
        data  A  2026-10-24T22:59:59Z  16   1
        data  A  2026-10-24T23:00:00Z  32   1
        data  A  2026-10-25T23:59:59Z  64   1
        data  A  2026-10-26T00:00:00Z  128  1
    """)
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    assert run_sql("SELECT day::text, total_price::text FROM usage_daily ORDER BY day") == [
        ("2026-03-28", "1"),
        ("2026-03-29", "6"),
        ("2026-03-30", "8"),
        ("2026-10-24", "16"),
        ("2026-10-25", "96"),
        ("2026-10-26", "128"),
    ]
