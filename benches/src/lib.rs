//! Fulmar benches live in `benches/` (criterion) and `compare/` (side by side).
