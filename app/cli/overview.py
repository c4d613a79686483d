"""What `koi --help` and `koi --version` print, without loading any command or cyclopts."""

HELP = """Koi, an OpenAI-compatible image gateway that never pays twice.

Start here:
  koi demo                             all on this machine, no account
  KOI_UPSTREAM_API_KEY=… koi serve     the real thing
  koi keys create --user alice --new   a key for somebody
  koi usage --by user,model            what was used

Settings are KOI_… variables or lines of a .env file.
Exit codes: 0 done, 1 failed, 2 wrong usage, 141 the reader of the output has gone.
"""
FLAGS = {
    "--help, -h": "Display this message and exit.",
    "--version": "Display application version.",
}
VERBS = {
    "serve": "Run the gateway.",
    "demo": "Try everything on this machine: one picture, no account.",
    "sandbox": "Run the stand-in provider alone: no account, no bill.",
    "catalog": "Check a catalog of models, print one that Koi ships.",
    "probe": "Ask a provider what its documentation leaves open, for a few images.",
    "users": "Create, change and list users and their limits.",
    "teams": "Create, change and list teams and their limits.",
    "keys": "Issue, list, revoke and rotate API keys.",
    "invite": "Print a link that turns into a user's key, once.",
    "invitations": "List and withdraw invitation links.",
    "admin-keys": "Issue, list and revoke keys for the administration API.",
    "apply": "Make users, teams, keys and limits what a file says.",
    "import": "Take over users, teams and limits from LiteLLM or new-api, not their keys.",
    "audit": "Show who changed which user, team, key or limit, and why.",
    "alerts": "Have a notice published when a month's spending reaches an amount.",
    "usage": "Add up what was used.",
    "ledger": "Audit, export, correct and rebuild the ledger.",
    "backup": "Write everything that the store knows into one file, while gateways run.",
    "restore": "Put a backup into an empty store of any kind.",
    "migrate": "Move the ledger to a server, from the embedded store or another server.",
    "store": "Repair the embedded store, upgrade the data of any store.",
    "tasks": "Look at tasks.",
    "webhooks": "Look at deliveries of webhooks, send them again, show the secret.",
    "notices": "Test and list the notices to the operator.",
    "stop-spending": "Buy nothing any more, on every gateway: for everybody, a team or a user.",
    "resume": "Let spending go on that `koi stop-spending` stopped.",
    "doctor": "Check this deployment and say what to fix.",
}
MODULES = {
    "admin-keys": "app.cli.admin_keys:admin_keys",
    "invite": "app.cli.invitations:invite",
    "import": "app.cli.importing:importing",
    "stop-spending": "app.cli.spending:stop_spending",
    "resume": "app.cli.spending:resume",
}
"""Where a verb is, if not in the module of its name."""


def overview() -> str:
    rows = "".join(f"  {name}: {summary}\n" for name, summary in (VERBS | FLAGS).items())
    return f"Usage: koi COMMAND\n\n{HELP}\nCommands:\n{rows}"


def koi_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to load

    try:
        return version("koi-gateway")
    except PackageNotFoundError:
        return "unknown"
