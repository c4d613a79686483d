# Run by `make test` where curl is installed. A task, then its end; `wait` is how long an answer may take.
KOI_URL='http://127.0.0.1:8000/v1'
KOI_KEY='sk-koi-…'

task=$(curl --fail-with-body --silent --show-error "$KOI_URL/images/generations" \
  --header "Authorization: Bearer $KOI_KEY" --header 'Content-Type: application/json' \
  --data '{"model": "grok-imagine", "prompt": "a koi", "async": true}' |
  sed 's/.*"id": *"\(task_[^"]*\)".*/\1/')
curl --fail-with-body --silent --show-error --max-time 60 "$KOI_URL/tasks/$task?wait=25" \
  --header "Authorization: Bearer $KOI_KEY"
