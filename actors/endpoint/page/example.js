// Something to begin with; every product is made up.

export const EXAMPLE = {
  query: "wireless mouse",
  products: [
    "USB-C charging cable, braided, 2 m",
    '{"title": "Vertical ergonomic mouse, 2.4 GHz wireless", "brand": "Norvik", "category": "computer mice"}',
    "Wired gaming mouse with side buttons",
    "Mouse pad, stitched edges, 80 × 30 cm",
    '{"title": "Travel mouse", "brand": "Norvik", "category": "computer mice", "attributes": {"connection": "Bluetooth"}}',
    "Wireless keyboard and mouse set, black",
    "Plush mouse with catnip",
    "Silent wireless mouse, rechargeable",
  ].join("\n"),
};
