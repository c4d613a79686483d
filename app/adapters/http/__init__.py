"""What the HTTP adapters share: content codings and TLS. It imports none of them."""
