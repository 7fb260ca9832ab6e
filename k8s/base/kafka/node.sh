#!/bin/sh
# Starts the Kafka node that this pod is. Its number and its address follow from the pod's name, all else is in the
# properties of its role.
set -eu

config=${CONFIG:-/etc/kafka}
libs=${LIBS:-/opt/kafka/libs}
properties=${SCRATCH:-/tmp}/node.properties

case $ROLE in
controller) listener=CONTROLLER port=9093 first_id=0 ;;
broker) listener=PLAINTEXT port=9092 first_id=100 ;;
*) echo "ROLE is controller or broker, not $ROLE" >&2; exit 1 ;;
esac

{
    cat "$config/common.properties" "$config/$ROLE.properties"
    echo "process.roles=$ROLE"
    echo "node.id=$((first_id + ${POD_NAME##*-}))"
    echo "listeners=$listener://$POD_IP:$port"
    echo "advertised.listeners=$listener://${ADVERTISED_HOST:-$POD_NAME.$SERVICE}:$port"
    # Beside lost+found, which a volume's root may have and Kafka takes for a partition.
    echo "log.dirs=${VOLUME:-/var/lib/kafka}/data"
} > "$properties"

java -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs/*" \
    kafka.tools.StorageTool format --ignore-formatted --cluster-id "$(cat "$config/cluster.id")" --config "$properties"
# shellcheck disable=SC2086 # several options
exec java $JVM_OPTIONS -XX:+ExitOnOutOfMemoryError \
    "-javaagent:${JMX_AGENT:-/opt/kafka/jmx_prometheus_javaagent.jar}=$POD_IP:9404:$config/jmx.yaml" \
    -cp "$libs/*" kafka.Kafka "$properties"
