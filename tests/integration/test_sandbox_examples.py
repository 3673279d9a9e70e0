"""The examples of the vendor's page, run against the sandbox."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.vendor import SandboxClient

if TYPE_CHECKING:
    from tests.conftest import Sandbox, StartSandbox

# The vendor's page, to the letter, its long lines included; the base URL and the key are put in when they are run.
CURL_LIST = """curl -X GET "https://server.headshotpro.com/api/v2/organization/models?status=active&limit=25" \\
-H "Authorization: Bearer YOUR_API_KEY"
"""
CURL_SINGLE = """curl -X GET "https://server.headshotpro.com/api/v2/organization/models/507f1f77bcf86cd799439011" \\
-H "Authorization: Bearer YOUR_API_KEY"
"""
CURL_CREATE = """curl -X POST "https://server.headshotpro.com/api/v2/organization/models" \\
-H "Authorization: Bearer YOUR_API_KEY" \\
-H "Content-Type: application/json" \\
-d '{
"email": "user@example.com",
"teamId": "team_xyz789",
"isDevelopment": false
}'
"""
CURL_DELETE = """curl -X DELETE "https://server.headshotpro.com/api/v2/organization/models/507f1f77bcf86cd799439011" \\
-H "Authorization: Bearer YOUR_API_KEY"
"""
NODE_LIST = """const response = await fetch('https://server.headshotpro.com/api/v2/organization/models?status=active&limit=25', {
method: 'GET',
headers: {
'Authorization': `Bearer ${apiKey}`,
'Content-Type': 'application/json'
}
});
const { models, pagination } = await response.json();
"""  # noqa: E501
NODE_CREATE = """const response = await fetch('https://server.headshotpro.com/api/v2/organization/models', {
method: 'POST',
headers: {
'Authorization': `Bearer ${apiKey}`,
'Content-Type': 'application/json'
},
body: JSON.stringify({
email: 'user@example.com',
teamId: 'team_xyz789',
isDevelopment: false
})
});
const { modelId, status, signedUrl } = await response.json();
"""
NODE_SINGLE = """const response = await fetch('https://server.headshotpro.com/api/v2/organization/models/507f1f77bcf86cd799439011', {
method: 'GET',
headers: {
'Authorization': `Bearer ${apiKey}`,
'Content-Type': 'application/json'
}
});
const { model } = await response.json();
"""  # noqa: E501


@pytest.fixture
def documented(sandbox: StartSandbox) -> Sandbox:
    """A sandbox in which the page's examples mean something: its model and its team exist."""
    running = sandbox(models=80, quiet=True)
    caller = SandboxClient(running)
    caller.control("POST", "/organization", {"teams": [{"name": "Marketing", "id": "team_xyz789"}]})
    caller.control("POST", "/models", {"id": "507f1f77bcf86cd799439011", "status": "active", "photoCount": 40})
    return running


def run_example(tool: str, command: list[str], example: str, running: Sandbox) -> Any:
    """The output of an example, read as JSON."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    adapted = example.replace("https://server.headshotpro.com/api/v2", running.url)
    adapted = adapted.replace("YOUR_API_KEY", running.api_key)
    done = subprocess.run([*command, adapted], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def run_node(example: str, names: str, running: Sandbox) -> Any:
    script = f"const apiKey = '{running.api_key}';\n{example}console.log(JSON.stringify({{ {names} }}));"
    return run_example("node", ["node", "--input-type=module", "-e"], script, running)


def run_curl(example: str, running: Sandbox) -> Any:
    return run_example("curl", ["sh", "-c"], example, running)


def test_the_pages_curl_examples_run(documented: Sandbox) -> None:
    assert len(run_curl(CURL_LIST, documented)["models"]) == 25
    assert run_curl(CURL_SINGLE, documented)["model"]["photoCount"] == 40
    assert run_curl(CURL_CREATE, documented)["status"] == "onboarding"
    assert run_curl(CURL_DELETE, documented)["message"] == "Model deleted successfully"


def test_the_pages_node_examples_run(documented: Sandbox) -> None:
    listed = run_node(NODE_LIST, "models, pagination", documented)
    assert len(listed["models"]) == listed["pagination"]["limit"] == 25
    assert run_node(NODE_SINGLE, "model", documented)["model"]["photoCount"] == 40
    created = run_node(NODE_CREATE, "modelId, status, signedUrl", documented)
    assert created["status"] == "onboarding"
    assert created["signedUrl"]
