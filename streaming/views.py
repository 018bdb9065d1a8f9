"""Views that save a reader the bookkeeping; created with the tables."""

VIEWS: dict[str, str] = {
    # Engagement arrives as increments, one row a batch; here they are added up.
    "engagement_daily": """
        SELECT day, query, product_id, "position",
               sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
               sum(add_to_carts)::BIGINT AS add_to_carts, sum(purchases)::BIGINT AS purchases
        FROM lake.main.engagement GROUP BY ALL""",
    # One judgement for each query and product: of the product's present text, if there is one, else of a text that it
    # had; the newest, whichever model made it. A text is judged once, under the product that showed it first; others
    # with the same text, such as sizes of one shoe, have its judgement for what they were shown for.
    "labels_latest": """
        SELECT l.* FROM (
            SELECT * FROM lake.main.labels
            UNION ALL
            SELECT l.* REPLACE (shown.product_id AS product_id)
            FROM (SELECT DISTINCT query, product_id FROM lake.main.engagement) shown
            JOIN lake.main.products p ON p.product_id = shown.product_id
            JOIN lake.main.labels l
                ON l.query = shown.query AND l.product_hash = p.product_hash AND l.product_id <> shown.product_id
        ) l
        LEFT JOIN lake.main.products p ON p.product_id = l.product_id
        QUALIFY row_number() OVER (
            PARTITION BY l.query, l.product_id
            ORDER BY (l.product_hash IS NOT DISTINCT FROM p.product_hash) DESC, l.judged_at DESC, l.label_key
        ) = 1""",
    # Labels beside what people read: titles, and what shoppers did.
    "labelled_pairs": """
        SELECT l.query, p.title, p.brand, l.level, l.expected_score, l.polarized_score, l.cross_encoder_score,
               e.impressions, e.clicks, e.add_to_carts, e.purchases, l.product_id, l.probabilities, l.model_version,
               l.judged_at
        FROM lake.main.labels_latest l
        LEFT JOIN lake.main.products p ON p.product_id = l.product_id
        LEFT JOIN (
            SELECT query, product_id, sum(impressions)::BIGINT AS impressions, sum(clicks)::BIGINT AS clicks,
                   sum(add_to_carts)::BIGINT AS add_to_carts, sum(purchases)::BIGINT AS purchases
            FROM lake.main.engagement GROUP BY ALL
        ) e ON e.query = l.query AND e.product_id = l.product_id""",
}
