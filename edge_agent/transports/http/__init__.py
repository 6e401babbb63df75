"""The HTTP surface on aiohttp."""
