"""Kafka in and out, pairs, engagement, the lake and the local store (floor 2)."""
