"""What is stored of a manifest, field by field, as the real server would answer it.

Each case is a manifest and the object that comes back, without what differs from run to run (uid, time, revision).
"""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
import yaml

from kpng.lab.apiserver import ApiServer
from kpng.lab.apiserver.registry import BY_NAME, Kind

PASSING = ("uid", "creationTimestamp", "resourceVersion")


def kind_of(thing: dict[str, Any]) -> Kind:
    return BY_NAME[(thing["apiVersion"], thing["kind"])]


def collection(thing: dict[str, Any]) -> str:
    kind = kind_of(thing)
    return f"{kind.root}/namespaces/default/{kind.plural}" if kind.namespaced else f"{kind.root}/{kind.plural}"


def lasting(thing: dict[str, Any]) -> dict[str, Any]:
    metadata = {field: value for field, value in thing["metadata"].items() if field not in PASSING}
    return thing | {"metadata": metadata}


CASES = {
    "the least service": (
        """
        apiVersion: v1
        kind: Service
        metadata: {name: web}
        spec: {clusterIP: 10.96.0.5, ports: [{port: 80}]}
        """,
        """
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: default, generation: 1}
        spec:
          type: ClusterIP
          clusterIP: 10.96.0.5
          clusterIPs: [10.96.0.5]
          ipFamilies: [IPv4]
          ipFamilyPolicy: SingleStack
          internalTrafficPolicy: Cluster
          sessionAffinity: None
          ports: [{port: 80, protocol: TCP, targetPort: 80}]
        status: {loadBalancer: {}}
        """,
    ),
    "a service with everything": (
        """
        apiVersion: v1
        kind: Service
        metadata: {name: web, labels: {app: web}, annotations: {note: x}}
        spec:
          type: LoadBalancer
          clusterIPs: [10.96.0.5, "fd00:10:96::5"]
          clusterIP: 10.96.0.5
          ipFamilyPolicy: PreferDualStack
          externalTrafficPolicy: Local
          internalTrafficPolicy: Local
          healthCheckNodePort: 32000
          loadBalancerClass: example.com/mine
          loadBalancerSourceRanges: [192.0.2.0/24]
          sessionAffinity: ClientIP
          sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
          publishNotReadyAddresses: true
          trafficDistribution: PreferSameZone
          externalIPs: [203.0.113.9]
          selector: {app: web}
          ports:
          - {name: http, port: 80, targetPort: web, nodePort: 30080, appProtocol: http}
          - {name: dns, port: 53, protocol: UDP, nodePort: 30053}
        """,
        """
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: default, generation: 1, labels: {app: web}, annotations: {note: x}}
        spec:
          type: LoadBalancer
          allocateLoadBalancerNodePorts: true
          clusterIP: 10.96.0.5
          clusterIPs: [10.96.0.5, "fd00:10:96::5"]
          ipFamilies: [IPv4, IPv6]
          ipFamilyPolicy: PreferDualStack
          externalTrafficPolicy: Local
          internalTrafficPolicy: Local
          healthCheckNodePort: 32000
          loadBalancerClass: example.com/mine
          loadBalancerSourceRanges: [192.0.2.0/24]
          sessionAffinity: ClientIP
          sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
          publishNotReadyAddresses: true
          trafficDistribution: PreferSameZone
          externalIPs: [203.0.113.9]
          selector: {app: web}
          ports:
          - {name: http, port: 80, protocol: TCP, targetPort: web, nodePort: 30080, appProtocol: http}
          - {name: dns, port: 53, protocol: UDP, targetPort: 53, nodePort: 30053}
        status: {loadBalancer: {}}
        """,
    ),
    "a headless service without selector": (
        """
        apiVersion: v1
        kind: Service
        metadata: {name: db}
        spec: {clusterIP: None}
        """,
        """
        apiVersion: v1
        kind: Service
        metadata: {name: db, namespace: default, generation: 1}
        spec:
          type: ClusterIP
          clusterIP: None
          clusterIPs: [None]
          ipFamilies: [IPv4, IPv6]
          ipFamilyPolicy: RequireDualStack
          internalTrafficPolicy: Cluster
          sessionAffinity: None
        status: {loadBalancer: {}}
        """,
    ),
    "an external name": (
        """
        apiVersion: v1
        kind: Service
        metadata: {name: out}
        spec: {type: ExternalName, externalName: example.com}
        """,
        """
        apiVersion: v1
        kind: Service
        metadata: {name: out, namespace: default, generation: 1}
        spec: {type: ExternalName, externalName: example.com, sessionAffinity: None}
        status: {loadBalancer: {}}
        """,
    ),
    "a slice": (
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
        addressType: IPv6
        endpoints:
        - addresses: ["2001:db8::1"]
          conditions: {ready: false, serving: true, terminating: true}
          nodeName: node-1
          zone: a
          hints: {forZones: [{name: a}], forNodes: [{name: node-1}]}
          targetRef: {kind: Pod, name: web-a, namespace: default}
        ports: [{port: 8080}, {name: dns, port: 53, protocol: UDP, appProtocol: x}]
        """,
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-1, namespace: default, generation: 1, labels: {kubernetes.io/service-name: web}}
        addressType: IPv6
        endpoints:
        - addresses: ["2001:db8::1"]
          conditions: {ready: false, serving: true, terminating: true}
          nodeName: node-1
          zone: a
          hints: {forZones: [{name: a}], forNodes: [{name: node-1}]}
          targetRef: {kind: Pod, name: web-a, namespace: default}
        ports:
        - {name: "", port: 8080, protocol: TCP}
        - {name: dns, port: 53, protocol: UDP, appProtocol: x}
        """,
    ),
    "a slice of nothing": (
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: none}
        addressType: IPv4
        """,
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: none, namespace: default, generation: 1}
        addressType: IPv4
        endpoints: null
        ports: null
        """,
    ),
    "a pod, whose status is not the user's to give": (
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: web-a}
        spec:
          nodeName: node-1
          initContainers: [{name: first, image: web, ports: [{containerPort: 1}]}]
          containers: [{name: main, image: web, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]
        status: {phase: Running, podIP: 10.1.0.1}
        """,
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: web-a, namespace: default, generation: 1}
        spec:
          nodeName: node-1
          dnsPolicy: ClusterFirst
          enableServiceLinks: true
          restartPolicy: Always
          initContainers: [{name: first, image: web, ports: [{containerPort: 1, protocol: TCP}]}]
          containers:
          - name: main
            image: web
            ports: [{containerPort: 80, protocol: TCP}, {containerPort: 53, protocol: UDP}]
        status: {phase: Pending}
        """,
    ),
    "a node, which brings its status along": (
        """
        apiVersion: v1
        kind: Node
        metadata: {name: node-1.example, labels: {topology.kubernetes.io/zone: a}}
        spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}
        status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
        """,
        """
        apiVersion: v1
        kind: Node
        metadata: {name: node-1.example, generation: 1, labels: {topology.kubernetes.io/zone: a}}
        spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}
        status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
        """,
    ),
    "a namespace": (
        """
        apiVersion: v1
        kind: Namespace
        metadata: {name: demo}
        """,
        """
        apiVersion: v1
        kind: Namespace
        metadata: {name: demo, generation: 1, labels: {kubernetes.io/metadata.name: demo}}
        spec: {finalizers: [kubernetes]}
        status: {phase: Active}
        """,
    ),
    "fields that nobody knows are kept": (
        """
        apiVersion: v1
        kind: Node
        metadata: {name: n, annotations: {a: "1"}, future: 1}
        spec: {later: {deep: [1, {x: null}]}}
        """,
        """
        apiVersion: v1
        kind: Node
        metadata: {name: n, generation: 1, annotations: {a: "1"}, future: 1}
        spec: {later: {deep: [1, {x: null}]}}
        """,
    ),
}


def load(text: str) -> dict[str, Any]:
    """A manifest; "None" is a word here, as in Kubernetes' YAML, not nothing."""
    loaded: dict[str, Any] = yaml.safe_load(dedent(text))
    return loaded


@pytest.mark.parametrize("case", CASES)
async def test_a_created_object(api: Any, case: str) -> None:
    given, expected = map(load, CASES[case])
    code, made = await api("POST", collection(given), given)
    assert code == 201, made
    assert lasting(made) == expected
    assert set(PASSING) <= made["metadata"].keys()
    assert await api("GET", f"{collection(given)}/{given['metadata']['name']}") == (200, made)


@pytest.mark.parametrize("case", CASES)
async def test_storing_what_came_back_changes_nothing(api: Any, server: ApiServer, case: str) -> None:
    given = load(CASES[case][0])
    _, made = await api("POST", collection(given), given)
    revision = server.revision
    assert await api("PUT", f"{collection(given)}/{made['metadata']['name']}", made) == (200, made)
    assert server.revision == revision


@pytest.mark.parametrize("case", [case for case in CASES if "pod" not in case])
async def test_loading_it_is_the_same_as_creating_it(server: ApiServer, case: str) -> None:
    """`ApiServer.load` differs in the status only, which it keeps."""
    given, expected = map(load, CASES[case])
    server.load([given])
    name = given["metadata"]["name"]
    (stored,) = [thing for thing in server.objects(given["kind"]) if thing["metadata"]["name"] == name]
    assert lasting(stored) == expected


@pytest.mark.parametrize("case", CASES)
async def test_deleting_and_creating_again_makes_another_object(api: Any, case: str) -> None:
    given = load(CASES[case][0])
    if given["kind"] == "Namespace":
        given["metadata"]["name"] = "unused"
    place = f"{collection(given)}/{given['metadata']['name']}"
    _, first = await api("POST", collection(given), given)
    code, again = await api("POST", collection(given), given)
    assert (code, again["reason"]) == (409, "AlreadyExists")
    assert again["message"] == f'{kind_of(given).resource} "{given["metadata"]["name"]}" already exists'
    assert (await api("DELETE", f"{place}?dryRun=All"))[0] == 200
    assert await api("GET", place) == (200, first)
    if given["kind"] != "Namespace":
        assert (await api("DELETE", place))[0] == 200
        _, second = await api("POST", collection(given), given)
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


@pytest.mark.parametrize("case", CASES)
async def test_an_update_of_another_life_is_refused(api: Any, case: str) -> None:
    given = load(CASES[case][0])
    place = f"{collection(given)}/{given['metadata']['name']}"
    _, made = await api("POST", collection(given), given)
    made["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    code, status = await api("PUT", place, made)
    assert (code, status["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition" in status["message"]
