"""Arithmetic whose results do not depend on order, sharding, tiles, threads or device."""
