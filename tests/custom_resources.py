"""The structure of the custom resources that we write, by hand.

Only the fields that our manifests may use: a field that is not here fails the test, be it a typing error or new.
docs/deploy.md says what each was read from; say it there too when you add a kind.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}  # checked elsewhere
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}


def choice(*values: str) -> Schema:
    """One of these."""
    return {"enum": list(values)}


def listed(items: Schema) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


def closed(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these fields and no others."""
    fields = required | (optional or {})
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


RESOURCES = closed({"requests": ANY, "limits": ANY})
RAY_VERSION = {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"}
RAY_CLUSTER = closed(
    {
        "rayVersion": RAY_VERSION,
        "authOptions": closed({"mode": choice("token", "disabled")}, {"secretName": TEXT}),
        "headGroupSpec": closed({"rayStartParams": TEXTS, "template": ANY}),
    },
    {
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": closed(
            {"version": choice("v2")},  # left out, KubeRay sets no restartPolicy: Never, which the autoscaler wants
            {
                "idleTimeoutSeconds": NUMBER,
                "upscalingMode": choice("Default", "Aggressive", "Conservative"),
                "resources": RESOURCES,
                "securityContext": ANY,
                "volumeMounts": ANY,
            },
        ),
        "workerGroupSpecs": listed(
            closed(
                {
                    "groupName": TEXT,
                    "minReplicas": NUMBER,
                    "maxReplicas": NUMBER,
                    "rayStartParams": TEXTS,
                    "template": ANY,
                },
                {"replicas": NUMBER, "idleTimeoutSeconds": NUMBER, "labels": TEXTS, "resources": TEXTS},
            )
        ),
    },
)
RAY_JOB = closed(
    {"entrypoint": TEXT, "rayClusterSpec": RAY_CLUSTER},
    {
        "suspend": FLAG,
        "submissionMode": choice("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "shutdownAfterJobFinishes": FLAG,
        "ttlSecondsAfterFinished": NUMBER,
        "activeDeadlineSeconds": NUMBER,
        "backoffLimit": NUMBER,
    },
)
RAY_SERVICE = closed(
    {"serveConfigV2": TEXT, "rayClusterConfig": RAY_CLUSTER},
    {
        "upgradeStrategy": closed({"type": choice("NewCluster", "NewClusterWithIncrementalUpgrade", "None")}),
        "rayClusterDeletionDelaySeconds": NUMBER,
        "excludeHeadPodFromServeSvc": FLAG,
    },
)
RAY_CRON_JOB = closed({"schedule": TEXT, "jobTemplate": RAY_JOB}, {"suspend": FLAG, "timeZone": TEXT})

KAFKA_STORAGE = closed(
    {
        "type": choice("jbod"),
        "volumes": listed(
            closed(
                {"id": NUMBER, "type": choice("persistent-claim", "ephemeral"), "size": TEXT},
                {"kraftMetadata": choice("shared"), "deleteClaim": FLAG, "class": TEXT},
            )
        ),
    }
)
KAFKA_NODE_POOL = closed(
    {"replicas": NUMBER, "roles": listed(choice("controller", "broker")), "storage": KAFKA_STORAGE},
    {"resources": RESOURCES},
)
WITH_SECURITY = closed({"securityContext": ANY})
KAFKA = closed(
    {
        "kafka": closed(
            {
                "version": TEXT,
                "metadataVersion": TEXT,
                "listeners": listed(
                    closed(
                        {
                            "name": {"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
                            "port": {"type": "integer", "minimum": 9092},
                            "type": choice("internal"),
                            "tls": {"const": True},
                            "authentication": closed({"type": choice("scram-sha-512", "tls")}),
                            "networkPolicyPeers": listed(closed({}, {"podSelector": ANY, "namespaceSelector": ANY})),
                        }
                    )
                ),
                "authorization": closed({"type": choice("simple")}),
                "config": {"type": "object"},
            },
            {"template": closed({}, {"pod": WITH_SECURITY, "kafkaContainer": WITH_SECURITY})},
        ),
        "entityOperator": closed(
            {"topicOperator": closed({}), "userOperator": closed({})},
            {
                "template": closed(
                    {},
                    {
                        "pod": WITH_SECURITY,
                        "topicOperatorContainer": WITH_SECURITY,
                        "userOperatorContainer": WITH_SECURITY,
                    },
                )
            },
        ),
    }
)
KAFKA_TOPIC = closed(
    {
        "partitions": {"type": "integer", "minimum": 1},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 32767},
        "config": {"type": "object"},
    }
)
OPERATIONS = (
    *("Read", "Write", "Create", "Delete", "Alter", "Describe", "All"),
    *("ClusterAction", "AlterConfigs", "DescribeConfigs", "IdempotentWrite"),
)
KAFKA_USER = closed(
    {
        "authentication": closed({"type": choice("scram-sha-512", "tls", "tls-external")}),
        "authorization": closed(
            {
                "type": choice("simple"),
                "acls": listed(
                    closed(
                        {
                            "resource": closed(
                                {"type": choice("topic", "group", "cluster", "transactionalId"), "name": TEXT}
                            ),
                            "operations": listed(choice(*OPERATIONS)),
                        }
                    )
                ),
            }
        ),
    }
)

SELECTOR = closed({"matchLabels": TEXTS})
SCRAPE = {"interval": DURATION, "scrapeTimeout": DURATION, "path": TEXT, "relabelings": ANY}
AUTHORIZATION = closed({"credentials": closed({"name": TEXT, "key": TEXT})}, {"type": TEXT})
SERVICE_MONITOR = closed(
    {"selector": SELECTOR, "endpoints": listed(closed({"port": TEXT}, SCRAPE | {"authorization": AUTHORIZATION}))}
)
POD_MONITOR = closed({"selector": SELECTOR, "podMetricsEndpoints": listed(closed({"port": TEXT}, SCRAPE))})
PROMETHEUS_RULE = closed(
    {
        "groups": listed(
            closed(
                {
                    "name": TEXT,
                    "rules": listed(
                        closed(
                            {"expr": TEXT},
                            {"alert": TEXT, "record": TEXT, "for": DURATION, "labels": TEXTS, "annotations": TEXTS},
                        )
                    ),
                },
                {"interval": DURATION},
            )
        )
    }
)

SPECS: dict[tuple[str, str], Schema] = {
    ("ray.io/v1", "RayService"): RAY_SERVICE,
    ("ray.io/v1", "RayJob"): RAY_JOB,
    ("ray.io/v1", "RayCronJob"): RAY_CRON_JOB,
    ("kafka.strimzi.io/v1", "Kafka"): KAFKA,
    ("kafka.strimzi.io/v1", "KafkaNodePool"): KAFKA_NODE_POOL,
    ("kafka.strimzi.io/v1", "KafkaTopic"): KAFKA_TOPIC,
    ("kafka.strimzi.io/v1", "KafkaUser"): KAFKA_USER,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
}
