"""Objects as an API server sends them: with all that it and the controllers add, which a reader must get past."""

from __future__ import annotations

from typing import Any

from .objects import Object

_TIME = "2026-01-02T03:04:05Z"
_IMAGES = 20
_SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC835  # odd, so that each number has a UID of its own


def as_served(thing: Object, revision: int) -> Object:
    """A copy of ``thing`` as a real API server would send it: metadata complete, managedFields, a status."""
    uid = _uid(revision)
    metadata = thing["metadata"] | {
        "uid": uid,
        "resourceVersion": str(revision),
        "creationTimestamp": _TIME,
        "managedFields": [_managed(thing)],
    }
    made = thing | {"metadata": metadata}
    if enrich := _ENRICH.get(thing["kind"]):
        enrich(made, revision)
    return made


def _uid(number: int) -> str:
    digits = f"{number * _SPREAD % (1 << 128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _managed(thing: Object) -> Object:
    """An entry of managedFields (KEP-555): who has set what, down to each key of each map."""
    fields = {f"f:{key}": _fields(value) for key, value in thing.items() if key not in ("kind", "apiVersion")}
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": thing["apiVersion"],
        "time": _TIME,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _fields(value: Any) -> Object:
    return {f"f:{key}": _fields(inner) for key, inner in value.items()} if isinstance(value, dict) else {}


def _service(service: Object, _revision: int) -> None:
    service["status"] = {"loadBalancer": {}}
    service["metadata"]["annotations"] = {
        "meta.helm.sh/release-name": "shop",
        "meta.helm.sh/release-namespace": "shop",
    }


def _endpoint_slice(thing: Object, revision: int) -> None:
    owner = thing["metadata"]["labels"]["kubernetes.io/service-name"]
    thing["metadata"] |= {
        "generateName": f"{owner}-",
        "generation": 1,
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": _TIME},
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "name": owner,
                "uid": _uid(revision + 1),
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    thing["endpoints"] = [
        endpoint | {"targetRef": endpoint["targetRef"] | {"uid": _uid(revision + 2 + index)}}
        for index, endpoint in enumerate(thing["endpoints"])
    ]


def _node(node: Object, revision: int) -> None:
    resources = {"cpu": "16", "memory": "65842948Ki", "pods": "110", "ephemeral-storage": "203070420Ki"}
    node["metadata"]["annotations"] = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    node["status"] = node["status"] | {
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            {
                "type": kind,
                "status": status,
                "lastHeartbeatTime": _TIME,
                "lastTransitionTime": _TIME,
                "reason": f"Kubelet{kind}",
                "message": "as reported by the kubelet",
            }
            for kind, status in (
                ("MemoryPressure", "False"),
                ("DiskPressure", "False"),
                ("PIDPressure", "False"),
                ("Ready", "True"),
            )
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": _uid(revision).replace("-", ""),
            "kernelVersion": "6.18.0",
            "osImage": "Linux",
            "containerRuntimeVersion": "containerd://2.2.0",
            "kubeletVersion": "v1.36.2",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
        "images": [
            {"names": [f"registry.example/shop/part-{image}@sha256:{image:064x}"], "sizeBytes": 10_000_000 + image}
            for image in range(_IMAGES)
        ],
    }


_ENRICH = {"Service": _service, "EndpointSlice": _endpoint_slice, "Node": _node}
