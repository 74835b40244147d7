"""Create, read, update, delete over raw HTTP: codes, reasons and messages."""

from __future__ import annotations

from typing import Any

import pytest

from kpng.lab.apiserver import ApiServer

SERVICES = "/api/v1/namespaces/default/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


async def test_create_fills_in_the_metadata(api: Any, service: Any) -> None:
    code, made = await api("POST", SERVICES, service())
    assert code == 201
    metadata = made["metadata"]
    assert metadata["resourceVersion"].isdecimal()
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["generation"] == 1
    assert await api("GET", f"{SERVICES}/web") == (200, made)


async def test_create_ignores_what_only_the_server_sets(api: Any, service: Any) -> None:
    thing = service() | {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    thing["metadata"] |= {"uid": "mine", "creationTimestamp": "2000-01-01T00:00:00Z", "resourceVersion": "7"}
    code, made = await api("POST", SERVICES, thing)
    assert code == 201
    assert made["status"] == {"loadBalancer": {}}
    assert made["metadata"]["uid"] != "mine"
    assert made["metadata"]["creationTimestamp"] > "2001"


async def test_generate_name(api: Any, service: Any) -> None:
    thing = service()
    thing["metadata"] = {"generateName": "web-"}
    names = {(await api("POST", SERVICES, thing))[1]["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_bodies_may_be_yaml_and_leave_out_the_type(api: Any) -> None:
    body = b"metadata: {name: web}\nspec: {ports: [{port: 80}]}"
    code, made = await api("POST", SERVICES, body, kind="application/yaml")
    assert (code, made["kind"], made["apiVersion"]) == (201, "Service", "v1")


@pytest.mark.parametrize(
    ("method", "path", "code", "reason", "message"),
    [
        ("GET", f"{SERVICES}/none", 404, "NotFound", 'services "none" not found'),
        ("DELETE", f"{SERVICES}/none", 404, "NotFound", 'services "none" not found'),
        ("GET", f"{SLICES}/none", 404, "NotFound", 'endpointslices.discovery.k8s.io "none" not found'),
        ("GET", "/api/v1/namespaces/none", 404, "NotFound", 'namespaces "none" not found'),
        ("GET", "/api/v1/widgets", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/apis/apps/v1/deployments", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/api/v1/services/web", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", f"{SLICES}/a/status", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", f"{SERVICES}/a/scale", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound", "the server could not find the requested"),
        ("GET", "/nonsense", 404, "NotFound", "the server could not find the requested resource"),
        ("PUT", SERVICES, 405, "MethodNotAllowed", "the server does not allow this method"),
        ("POST", f"{SERVICES}/web", 405, "MethodNotAllowed", "the server does not allow this method"),
        ("POST", "/api/v1/services", 405, "MethodNotAllowed", "the server does not allow this method"),
        ("DELETE", "/api/v1/services", 405, "MethodNotAllowed", "the server does not allow this method"),
        ("GET", f"{SERVICES}?labelSelector=a+in", 400, "BadRequest", "unable to parse requirement"),
        ("GET", f"{SERVICES}?fieldSelector=spec.foo=1", 400, "BadRequest", "field label not supported: spec.foo"),
        ("GET", f"{SERVICES}?limit=x", 400, "BadRequest", 'Invalid value: "x"'),
        ("GET", f"{SERVICES}?resourceVersion=x", 400, "BadRequest", 'Invalid value: "x"'),
        ("GET", f"{SERVICES}?continue=x", 400, "BadRequest", "continue key is not valid"),
        ("GET", f"{SERVICES}?resourceVersion=99999", 504, "Timeout", "Too large resource version: 99999"),
        ("GET", f"{SERVICES}?resourceVersionMatch=Exact", 422, "Invalid", "resourceVersionMatch: Forbidden"),
        ("GET", f"{SERVICES}?resourceVersionMatch=Odd&resourceVersion=1", 422, "Invalid", 'value: "Odd"'),
        ("GET", f"{SERVICES}?watch=1&sendInitialEvents=true", 422, "Invalid", "sendInitialEvents requires setting"),
        ("GET", f"{SERVICES}?sendInitialEvents=true", 422, "Invalid", "sendInitialEvents is forbidden for list"),
    ],
)
async def test_refusals(
    api: Any, service: Any, method: str, path: str, code: int, reason: str, message: str
) -> None:
    answered, status = await api(method, path, service() if method in ("PUT", "POST") else None)
    assert (answered, status["code"], status["kind"], status["status"]) == (code, code, "Status", "Failure")
    assert status["reason"] == reason
    assert message in status["message"]


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"k8s\0", "application/vnd.kubernetes.protobuf", 415),
        (b'{"kind":"Pod","metadata":{"name":"a"}}', "application/json", 400),
        (b'{"metadata":{"name":"a","namespace":"other"},"spec":{}}', "application/json", 400),
        (b'{"metadata":[]}', "application/json", 400),
        (b'{"metadata":{"name":"a"},"spec":[]}', "application/json", 400),
        (b'{"metadata":{"name":"a"},"spec":{"ports":[3]}}', "application/json", 400),
        (b'{"metadata":{},"spec":{}}', "application/json", 422),
    ],
)
async def test_bodies_that_are_no_service(api: Any, body: bytes, kind: str, code: int) -> None:
    answered, status = await api("POST", SERVICES, body, kind=kind)
    assert (answered, status["kind"]) == (code, "Status")


async def test_create_twice_and_into_a_missing_namespace(api: Any, service: Any) -> None:
    await api("POST", SERVICES, service())
    code, status = await api("POST", SERVICES, service())
    assert (code, status["reason"], status["message"]) == (409, "AlreadyExists", 'services "web" already exists')
    thing = service()
    thing["metadata"]["namespace"] = "gone"
    code, status = await api("POST", "/api/v1/namespaces/gone/services", thing)
    assert (code, status["message"]) == (404, 'namespaces "gone" not found')


async def test_update_needs_the_latest_version(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    made["spec"]["ports"][0]["targetPort"] = 8080
    code, updated = await api("PUT", f"{SERVICES}/web", made)
    assert (code, updated["metadata"]["generation"]) == (200, 2)
    code, status = await api("PUT", f"{SERVICES}/web", made)
    assert (code, status["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes" in status["message"]
    del made["metadata"]["resourceVersion"]
    made["metadata"]["uid"] = "another"
    assert (await api("PUT", f"{SERVICES}/web", made))[0] == 409
    made["metadata"] = {"name": "other"}
    assert (await api("PUT", f"{SERVICES}/web", made))[0] == 400


async def test_update_without_a_version_keeps_address_and_identity(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    code, updated = await api("PUT", f"{SERVICES}/web", service(ports=[{"port": 81}]))
    assert code == 200
    assert updated["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert updated["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_change_of_nothing_is_no_change(api: Any, server: ApiServer, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    revision = server.revision
    assert await api("PUT", f"{SERVICES}/web", made) == (200, made)
    assert server.revision == revision


async def test_labels_do_not_raise_the_generation(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    made["metadata"]["labels"] = {"a": "b"}
    _, updated = await api("PUT", f"{SERVICES}/web", made)
    assert updated["metadata"]["generation"] == 1
    assert updated["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


async def test_object_and_status_are_written_apart(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    made |= {"status": status, "spec": made["spec"] | {"sessionAffinity": "ClientIP"}}
    _, after = await api("PUT", f"{SERVICES}/web/status", made)
    assert after["status"] == status
    assert after["spec"]["sessionAffinity"] == "None"
    after |= {"status": {}, "spec": after["spec"] | {"sessionAffinity": "ClientIP"}}
    _, last = await api("PUT", f"{SERVICES}/web", after)
    assert last["status"] == status
    assert last["spec"]["sessionAffinity"] == "ClientIP"
    assert (await api("GET", f"{SERVICES}/web/status"))[1] == last


async def test_delete_and_its_preconditions(api: Any, service: Any) -> None:
    _, made = await api("POST", SERVICES, service())
    code, status = await api("DELETE", f"{SERVICES}/web", {"preconditions": {"uid": "another"}})
    assert (code, status["reason"]) == (409, "Conflict")
    options = {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": "Background"}
    code, gone = await api("DELETE", f"{SERVICES}/web", options)
    assert (code, gone["metadata"]["name"]) == (200, "web")
    assert (await api("GET", f"{SERVICES}/web"))[0] == 404


async def test_delete_of_a_slice_answers_with_a_status(api: Any, endpoint_slice: Any) -> None:
    _, made = await api("POST", SLICES, endpoint_slice())
    code, status = await api("DELETE", f"{SLICES}/web-1")
    assert (code, status["status"]) == (200, "Success")
    assert status["details"]["uid"] == made["metadata"]["uid"]


async def test_a_deleted_namespace_takes_its_content_along(api: Any, server: ApiServer, service: Any) -> None:
    inside = service()
    inside["metadata"]["namespace"] = "demo"
    server.load([inside, service()])
    events = api.events("/api/v1/namespaces?watch=1&resourceVersion=" + str(server.revision), 2)
    code, _ = await api("DELETE", "/api/v1/namespaces/demo")
    assert code == 200
    code, status = await api("POST", "/api/v1/namespaces/demo/services", {"metadata": {"name": "late"}})
    assert (code, status["reason"]) == (403, "Forbidden")
    marked, removed = await events
    assert (marked["type"], marked["object"]["status"]["phase"]) == ("MODIFIED", "Terminating")
    assert removed["type"] == "DELETED"
    assert [thing["metadata"]["namespace"] for thing in server.objects("Service")] == ["default"]


async def test_load_keeps_status_and_replaces(server: ApiServer) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "new"}}
    server.load([{"kind": "List", "apiVersion": "v1", "items": [pod | {"status": {"podIP": "10.1.0.1"}}]}])
    server.load([pod | {"status": {"podIP": "10.1.0.2"}}])
    (stored,) = server.objects("Pod")
    assert stored["status"]["podIP"] == "10.1.0.2"
    assert "new" in [namespace["metadata"]["name"] for namespace in server.objects("Namespace")]


async def test_health_and_version(api: Any) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz?verbose"):
        assert await api("GET", path) == (200, "ok")
    assert (await api("GET", "/version"))[1]["major"] == "1"
