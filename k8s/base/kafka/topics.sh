#!/bin/sh
# Creates the topics of topics.txt, and sets what they keep. It can run again: what is there stays.
set -eu

config=${CONFIG:-/etc/kafka}
libs=${LIBS:-/opt/kafka/libs}

kafka() {
    tool=$1 && shift
    java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
        -cp "$libs/*" "$tool" --bootstrap-server "$BOOTSTRAP_SERVERS" "$@"
}

deadline=$(($(date +%s) + 300))
# All brokers, or a topic could not have its replicas.
until [ "$(kafka org.apache.kafka.tools.BrokerApiVersionsCommand 2> /dev/null | grep -c ' (id: ')" -ge "$BROKERS" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || { echo "there are no $BROKERS brokers at $BOOTSTRAP_SERVERS" >&2; exit 1; }
    echo "waiting for $BROKERS brokers at $BOOTSTRAP_SERVERS"
    sleep 2
done

grep -v '^#' "$config/topics.txt" | while read -r name partitions mebibytes; do
    topic=$(echo "$name" | sed "s/{topic}/$TOPIC/")
    kafka org.apache.kafka.tools.TopicCommand --create --if-not-exists \
        --topic "$topic" --partitions "$partitions" --replication-factor "$BROKERS"
    kafka kafka.admin.ConfigCommand --alter --entity-type topics --entity-name "$topic" \
        --add-config "retention.bytes=$((mebibytes * 1024 * 1024))"
done
kafka org.apache.kafka.tools.TopicCommand --describe --exclude-internal | grep PartitionCount
