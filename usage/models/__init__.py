"""Models of the read model, in the order in which data moves: subscriptions, records, totals,
runs; and the tokens of clients."""

from usage.models.daily import (
    DailyUsage,
    LateKey,
    LiveDailyUsage,
    OpenDailyUsage,
    PeriodTotal,
    SealedDailyUsage,
)
from usage.models.records import (
    MOST_QUANTITY,
    RAW_TABLES,
    RECORD_MODELS,
    DataUsageRecord,
    UsageRecord,
    UsageType,
    VoiceUsageRecord,
)
from usage.models.runs import LateKeysMode, RefreshRun, RefreshTally, UsageState
from usage.models.subscriptions import Subscription
from usage.models.tokens import AccessToken, Scope

__all__ = [
    "MOST_QUANTITY",
    "RAW_TABLES",
    "RECORD_MODELS",
    "AccessToken",
    "DailyUsage",
    "DataUsageRecord",
    "LateKey",
    "LateKeysMode",
    "LiveDailyUsage",
    "OpenDailyUsage",
    "PeriodTotal",
    "RefreshRun",
    "RefreshTally",
    "Scope",
    "SealedDailyUsage",
    "Subscription",
    "UsageRecord",
    "UsageState",
    "UsageType",
    "VoiceUsageRecord",
]
