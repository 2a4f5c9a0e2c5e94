"""Settings of the embedded PostgreSQL: for lasting data, and for throw-away servers."""

COMMON = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}

LASTING = COMMON | {
    "max_connections": "60",
    "max_prepared_transactions": "0",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "256MB",
    "work_mem": "32MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
}

# Tests need prepared transactions, and their data may be lost when the machine crashes.
THROWN_AWAY = COMMON | {
    "max_connections": "100",
    "max_prepared_transactions": "20",
    "shared_buffers": "128MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}
