"""What clients of OpenAI's image API rely on: 94 statements, in groups.

Each names the tests of this suite that prove it where its own probe cannot (`probes_*.py`): those
need another setting, a second process or a look inside, so they say something about Koi alone.
"""

from dataclasses import dataclass

CONTRACT, FLOW = "tests/contract", "tests/flow"


@dataclass(frozen=True)
class Statement:
    """`tests` prove it, or the part of it that the probe of the same number does not ask for."""

    number: int
    group: str
    words: str
    tests: tuple[str, ...] = ()


def _group(first: int, group: str, *rows: str | tuple[str, ...]) -> tuple[Statement, ...]:
    told = [(row,) if isinstance(row, str) else row for row in rows]
    return tuple(
        Statement(number, group, words, tuple(tests))
        for number, (words, *tests) in enumerate(told, first)
    )


STATEMENTS: tuple[Statement, ...] = (
    *_group(
        1, "Paths, keys, transport",
        "A generation with a bearer key is a 200 with `created` (an integer) and `data` (a list)",
        "The base URL may lack `/v1`",
        "The base URL may end in a slash",
        "`/v1` may come twice (Dify appends it by itself)",
        "The path may begin with two slashes",
        "The path may end in a slash, and no POST is ever redirected",
        "The Azure class of the SDK works: its path, its query, its `api-key` header",
        "`bearer` may be in small letters",
        "Without a key: 401, an error object, and no invitation to repeat",
        "An unknown key is the SDK's AuthenticationError with `invalid_api_key`",
        ("The provider's key is in no answer, log or error",
         "tests/security/test_canaries.py::test_no_canary_leaves_its_cage"),
        "The caller's key never goes to the provider",
        "OpenAI-Organization, OpenAI-Project and unknown headers are no obstacle",
        "JSON is read without a content type, and as text/plain",
        "A chunked request body is read",
        "A body that is no JSON is a 400 `invalid_request_error`",
        "A JSON list or text as body is a 400",
        "A body beyond the limit is a 413 with an error object, before it is read",
        "A connection may be idle for a minute",
        "An unknown path is a 404 `unknown_url`, a wrong method a 405, both with an error object",
    ),
    *_group(
        21, "What a request means",
        "`n`, `size` and `quality` may be null",
        "Three pictures asked for are three pictures",
        "`n` of 0, 11 or a word is a 400 that names `n`",
        "A missing or blank prompt is a 400 that names `prompt`, `missing_required_parameter`",
        "A prompt of 32,000 characters is taken, or refused with the limit",
        "Without a model the default one is used",
        "An unknown model is the SDK's NotFoundError with `model_not_found`",
        "dall-e-2, dall-e-3 and gpt-image-1 are served",
        "`512x512` is served, and the true size and the change are told",
        "The two wide sizes of DALL-E 3 become the nearest wide ones",
        "`auto` or no size is 1024x1024",
        ("A strict gateway refuses an unknown size and lists the good ones",
         f"{CONTRACT}/test_conformance_images.py::test_a_refused_size_lists_the_good_ones"),
        "hd, high, xhigh and max reach the provider as hd; standard, auto, low, medium as standard",
        "A client that validates strictly accepts the answer",
        "Fields that mean nothing here are accepted, and named in a header",
        "`b64_json` is base64 in every item, whatever the provider sends",
        ("`url` is a link in every item that opens as a picture, without a key and with one",
         "tests/adapters/test_images_links.py::test_a_link_lives_at_least_its_time_and_at_most_an_hour_more"),
        "Without a format, gpt-image names get base64 and others a link",
        "`revised_prompt` is passed on",
        "Three equal calls at once are three generations and three pictures",
        ("A cached answer says so, can be declined, is metered as one, and crosses no users",
         f"{FLOW}/test_cache.py::test_a_reload_gets_the_old_picture_and_costs_nothing",
         f"{FLOW}/test_cache.py::test_request_directives_are_obeyed",
         f"{FLOW}/test_cache.py::test_pictures_never_cross_users_unless_their_team_shares"),
        "A dead link behind base64 is a 502, or a 504 that names the task, after one generation",
    ),
    *_group(
        43, "Tasks",
        "`async: true` is answered within a second: id, queued, progress 0",
        "The SDK polls a task as a dictionary and as an ImagesResponse",
        "Every state has id, object, status and progress; the end has its pictures or its error",
        "The task of another key is a 404 `task_not_found`",
        "An unknown task is a 404",
        "A poll says when to ask again",
        "The format asked for at the start is that of the poll",
        ("A task survives the gateway and is metered once",
         f"{FLOW}/test_crash.py::test_a_task_survives_kill_minus_nine_and_is_metered_once"),
        '`async: "true"`, as forms send it, is understood or refused',
        ("A task that the provider never ends, ends as failed",
         f"{FLOW}/test_doubtful_tasks.py::test_the_deadline_says_what_the_task_said_last"),
        "A synchronous answer names its task, so that a lost answer can be fetched",
    ),
    *_group(
        54, "Errors",
        "Every error is JSON with the four fields and has an `x-request-id`",
        "A refused prompt is a 400 with a moderation code, after one POST",
        "A provider that refuses our key is a 502 or 503, never a 401",
        "A provider without balance is a 503 or 429 that invites no repeat",
        "A provider's 429 is a 429 with a pause of at most a minute",
        "A provider's page of HTML is a 502 in a few words without HTML",
        "A provider's 200 with an error inside is an error",
        ("A bug is a 500 with an error object",
         f"{CONTRACT}/test_errors.py::test_a_bug_is_one_fixed_sentence"),
        "`code` is text or null, never a number",
    ),
    *_group(
        63, "Quotas, limits, repeats",
        "A used-up quota is `insufficient_quota` without a pause, and the SDK asks once",
        "A rate limit is `rate_limit_exceeded` with a pause in seconds and milliseconds",
        "No pause is longer than a minute, whatever the provider says",
        "A conflict that must not be repeated is no 409",
        "What is left of images and requests is told with answers and refusals",
        "An SDK's repeats after its timeout join the running generation: one POST",
        "A repeat without any mark gets the picture of the call that was given up: one POST",
        "An Idempotency-Key gives the same picture again; another body is refused (400 or 422)",
        "A caller who hangs up changes nothing: one POST, one image billed, and a picture to fetch",
        ("A failure is told again for a minute at most",
         f"{FLOW}/test_told_failures.py"
         "::test_each_repeat_is_told_again_but_nobody_for_longer_than_a_minute"),
        ("Quota is reserved before the provider is asked, and given back after a failure",
         f"{FLOW}/test_quota.py::test_a_failed_generation_gives_the_reservation_back",
         f"{FLOW}/test_quota.py::test_a_crowd_gets_exactly_what_the_limit_allows"),
    ),
    *_group(
        74, "Long requests",
        "A picture that takes 340 seconds reaches the Node SDK with its defaults",
        "A client with half a second of patience gets its picture",
        "An early failure has its own status",
        "A late failure cuts the answer, and the SDK's repeat shows the true error: one POST",
        "A long answer is kept alive by blanks before its JSON, and proxies are told not to wait",
        ("Keeping alive can be turned off",
         f"{FLOW}/test_sdk_python.py"
         "::test_a_timeout_shorter_than_the_generation_is_one_charge_and_the_picture_arrives"),
        ("A gateway that stops finishes its jobs or hands them over",
         f"{FLOW}/test_serve_gateway.py::test_it_drains_what_runs_and_refuses_new_work",
         f"{FLOW}/test_serve_gateway.py::test_an_async_job_is_handed_to_the_next_process"),
    ),
    *_group(
        81, "Streaming",
        "`stream: true` ends in one completed event for each picture, with base64 and usage",
        "A failure in a stream is the SDK's APIError with a code",
        "While it waits a stream has comments only, no event of its own invention",
        "A stream of an asynchronous call is a 400",
        ("The SDKs iterate the stream",
         f"{FLOW}/test_sdk_node.py::test_node_streams"),
    ),
    *_group(
        86, "Uploads, models, browsers",
        "An edit as the SDK sends it is a picture, or a 400 that says why not",
        "The models are a list of id, object, created and owned_by",
        "A model is found by a name with a slash in it",
        "A browser may ask with all headers of the SDK, and read errors and our headers",
        ("The SDK's request id is that of the header and of the log",
         f"{CONTRACT}/test_conformance_edge.py"
         "::test_the_request_id_of_the_sdk_is_the_one_in_the_log"),
    ),
    *_group(
        91, "Metering",
        "The SDK's admin client reads the usage by several dimensions",
        "An array in the query may be in brackets, repeated or with commas",
        "A caller's key on an administrator's route is a PermissionDeniedError",
        ("Usage, costs, ledger and metrics agree",
         f"{FLOW}/test_metering.py::test_one_day_of_use_is_told_alike_by_ledger_report_and_metrics"),
    ),
)  # fmt: skip
