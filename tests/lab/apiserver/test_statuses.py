"""Failures as whole Status objects: clients read reason, details and causes, not only the code."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
MERGE = "application/merge-patch+json"


def failure(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status |= {"code": code, "reason": reason, "message": message}
    return status | ({"details": details} if details else {})


def port(number: Any, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "bad"}, "spec": {"ports": [{"port": number, "targetPort": 1} | fields]}}


CASES: list[tuple[str, str, Any, dict[str, Any]]] = [
    (
        "GET",
        f"{SERVICES}/none",
        None,
        failure(404, "NotFound", 'services "none" not found', name="none", kind="services"),
    ),
    (
        "DELETE",
        f"{SLICES}/none",
        None,
        failure(
            404,
            "NotFound",
            'endpointslices.discovery.k8s.io "none" not found',
            name="none",
            kind="endpointslices",
            group="discovery.k8s.io",
        ),
    ),
    (
        "POST",
        "/api/v1/namespaces/none/services",
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}},
        failure(404, "NotFound", 'namespaces "none" not found', name="none", kind="namespaces"),
    ),
    (
        "GET",
        "/apis/apps/v1/deployments",
        None,
        failure(404, "NotFound", "the server could not find the requested resource"),
    ),
    (
        "POST",
        SERVICES,
        {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 1}]}},
        failure(409, "AlreadyExists", 'services "web" already exists', name="web", kind="services"),
    ),
    (
        "PUT",
        f"{SERVICES}/web",
        {"metadata": {"name": "web", "resourceVersion": "1"}, "spec": {"ports": [{"port": 1}]}},
        failure(
            409,
            "Conflict",
            'Operation cannot be fulfilled on services "web": the object has been modified; please apply your'
            " changes to the latest version and try again",
            name="web",
            kind="services",
        ),
    ),
    (
        "POST",
        SERVICES,
        port(70000),
        failure(
            422,
            "Invalid",
            'Service "bad" is invalid: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535,'
            " inclusive",
            name="bad",
            kind="Service",
            causes=[
                {
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: 70000: must be between 1 and 65535, inclusive",
                    "field": "spec.ports[0].port",
                }
            ],
        ),
    ),
    (
        "POST",
        SERVICES,
        port(0, protocol="ICMP"),
        failure(
            422,
            "Invalid",
            'Service "bad" is invalid: [spec.ports[0].port: Invalid value: 0: must be between 1 and 65535,'
            " inclusive,"
            ' spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"]',
            name="bad",
            kind="Service",
            causes=[
                {
                    "reason": "FieldValueInvalid",
                    "message": "Invalid value: 0: must be between 1 and 65535, inclusive",
                    "field": "spec.ports[0].port",
                },
                {
                    "reason": "FieldValueNotSupported",
                    "message": 'Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"',
                    "field": "spec.ports[0].protocol",
                },
            ],
        ),
    ),
    (
        "POST",
        SLICES,
        {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [{"addresses": []}]},
        failure(
            422,
            "Invalid",
            'EndpointSlice.discovery.k8s.io "a" is invalid: endpoints[0].addresses: Required value: must contain at'
            " least 1 address",
            name="a",
            kind="EndpointSlice",
            group="discovery.k8s.io",
            causes=[
                {
                    "reason": "FieldValueRequired",
                    "message": "Required value: must contain at least 1 address",
                    "field": "endpoints[0].addresses",
                }
            ],
        ),
    ),
    (
        "PATCH",
        f"{SERVICES}/web",
        {"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}},
        failure(
            422,
            "Invalid",
            'Service "web" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.9.9"]: may not change once set',
            name="web",
            kind="Service",
            causes=[
                {
                    "reason": "FieldValueInvalid",
                    "message": 'Invalid value: ["10.96.9.9"]: may not change once set',
                    "field": "spec.clusterIPs[0]",
                }
            ],
        ),
    ),
    (
        "POST",
        "/api/v1/nodes",
        {"metadata": {}},
        failure(
            422,
            "Invalid",
            'Node "" is invalid: metadata.name: Required value: name or generateName is required',
            name="",
            kind="Node",
            causes=[
                {
                    "reason": "FieldValueRequired",
                    "message": "Required value: name or generateName is required",
                    "field": "metadata.name",
                }
            ],
        ),
    ),
    (
        "PATCH",
        SERVICES,
        {},
        failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
    ),
    (
        "DELETE",
        SERVICES,
        None,
        failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
    ),
    (
        "GET",
        f"{SERVICES}?labelSelector=a+b",
        None,
        failure(400, "BadRequest", "unable to parse requirement: unknown operator 'b', in selector 'a b'"),
    ),
    (
        "GET",
        f"{SERVICES}?fieldSelector=spec.selector%3Da",
        None,
        failure(400, "BadRequest", "field label not supported: spec.selector"),
    ),
    (
        "POST",
        SERVICES,
        {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}},
        failure(400, "BadRequest", "Pod in version 'v1' cannot be handled as a Service"),
    ),
    (
        "POST",
        SERVICES,
        {"metadata": {"name": "a", "namespace": "other"}},
        failure(
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request"
            " (other != default)",
        ),
    ),
    (
        "PUT",
        f"{SERVICES}/web",
        {"metadata": {"name": "other"}, "spec": {"ports": [{"port": 1}]}},
        failure(400, "BadRequest", "the name of the object (other) does not match the name on the URL (web)"),
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), CASES)
async def test_a_failure(
    api: Any, server: ApiServer, service: Any, method: str, path: str, body: Any, expected: dict[str, Any]
) -> None:
    server.load([service()])
    revision = server.revision
    kind = MERGE if method == "PATCH" else "application/json"
    code, status = await api(method, path, body, kind=kind)
    assert code == expected["code"]
    assert status == expected
    assert server.revision == revision, "a request that is refused must change nothing"


async def test_a_delete_may_name_the_version_it_means(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    version = made["metadata"]["resourceVersion"]
    code, status = await api("DELETE", f"{SERVICES}/web", {"preconditions": {"resourceVersion": "1"}})
    assert code == 409
    assert status == failure(
        409,
        "Conflict",
        'Operation cannot be fulfilled on services "web": Precondition failed: ResourceVersion in precondition: 1,'
        f" ResourceVersion in object meta: {version}",
        name="web",
        kind="services",
    )
    options = {"preconditions": {"resourceVersion": version, "uid": made["metadata"]["uid"]}}
    assert (await api("DELETE", f"{SERVICES}/web", options))[0] == 200


async def test_the_status_of_a_deleted_node(api: Any, server: ApiServer) -> None:
    server.load([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}])
    uid = server.objects("Node")[0]["metadata"]["uid"]
    assert await api("DELETE", "/api/v1/nodes/n") == (
        200,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": "n", "kind": "nodes", "uid": uid},
        },
    )
