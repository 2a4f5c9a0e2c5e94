"""The lists of the API: the list of usage and the type of a page of each."""

from usage.api import shapes
from usage.api.list_endpoint import ListEndpoint
from usage.lists import all_lists


class OverLimit(ListEndpoint):
    __doc__ = all_lists.OverLimit.__doc__
    usage_list = all_lists.OverLimit()
    shape = shapes.OverLimitPage


class Totals(ListEndpoint):
    __doc__ = all_lists.Totals.__doc__
    usage_list = all_lists.Totals()
    shape = shapes.TotalsPage


class Daily(ListEndpoint):
    __doc__ = all_lists.Daily.__doc__
    usage_list = all_lists.Daily()
    shape = shapes.DailyPage


class Records(ListEndpoint):
    __doc__ = all_lists.Records.__doc__
    usage_list = all_lists.Records()
    shape = shapes.UsageRecordsPage


class Subscriptions(ListEndpoint):
    __doc__ = all_lists.Subscriptions.__doc__
    usage_list = all_lists.Subscriptions()
    shape = shapes.SubscriptionsPage
