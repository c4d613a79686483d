# Run by `make test` where curl is installed. The key makes a repeat free: the same key and body is the same picture.
KOI_URL='http://127.0.0.1:8000/v1'
KOI_KEY='sk-koi-…'

curl --fail-with-body --silent --show-error --max-time 600 "$KOI_URL/images/generations" \
  --header "Authorization: Bearer $KOI_KEY" --header 'Content-Type: application/json' \
  --header 'Idempotency-Key: my-order-1' \
  --data '{"model": "grok-imagine", "prompt": "a koi in a nebula"}'
