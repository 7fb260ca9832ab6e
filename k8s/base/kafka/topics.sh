#!/bin/sh
# Creates the topics of topics.txt, and sets what they keep. It can run again: what is there stays, and keeps what it is to.
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

there=$(kafka org.apache.kafka.tools.TopicCommand --list)
grep -v '^#' "$config/topics.txt" | while read -r name partitions mebibytes; do
    topic=$(echo "$name" | sed "s/{topic}/$TOPIC/")
    keeps=retention.bytes=$((mebibytes * 1024 * 1024))
    # Of the topic itself, so that it holds whatever the cluster's is.
    in_sync=min.insync.replicas=$((BROKERS - 1))
    if echo "$there" | grep -qxF "$topic"; then
        kafka kafka.admin.ConfigCommand --alter --entity-type topics --entity-name "$topic" --add-config "$keeps,$in_sync"
    else
        kafka org.apache.kafka.tools.TopicCommand --create --if-not-exists --topic "$topic" --config "$keeps" --config "$in_sync" \
            --partitions "$partitions" --replication-factor "$BROKERS"
    fi < /dev/null
done
kafka org.apache.kafka.tools.TopicCommand --describe --exclude-internal | grep PartitionCount
