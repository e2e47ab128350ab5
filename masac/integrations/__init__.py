"""masac inside other trainers. Nothing here is imported by masac itself; each needs an extra of its own."""
