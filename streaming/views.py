"""Views that save a reader the bookkeeping; created with the tables."""

VIEWS: dict[str, str] = {
    # Engagement arrives as increments, one row a batch; here they are added up.
    "engagement_daily": """
        SELECT day, query, product_id, "position",
               sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
               sum(add_to_carts)::BIGINT AS add_to_carts, sum(purchases)::BIGINT AS purchases
        FROM lake.main.engagement GROUP BY ALL""",
    # The newest judgement of each pair, whichever model made it.
    "labels_latest": """
        SELECT * FROM lake.main.labels
        QUALIFY row_number() OVER (PARTITION BY query, product_id ORDER BY judged_at DESC, label_key) = 1""",
    # Labels beside what people read: titles, and what shoppers did.
    "labelled_pairs": """
        SELECT l.query, p.title, p.brand, l.level, l.expected_score, l.polarized_score, l.cross_encoder_score,
               e.impressions, e.clicks, e.add_to_carts, e.purchases, l.product_id, l.probabilities, l.model_version,
               l.judged_at
        FROM (
            SELECT * FROM lake.main.labels
            QUALIFY row_number() OVER (PARTITION BY query, product_id ORDER BY judged_at DESC, label_key) = 1
        ) l
        LEFT JOIN lake.main.products p USING (product_id)
        LEFT JOIN (
            SELECT query, product_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
                   sum(add_to_carts)::BIGINT AS add_to_carts, sum(purchases)::BIGINT AS purchases
            FROM lake.main.engagement GROUP BY ALL
        ) e USING (query, product_id)""",
}
