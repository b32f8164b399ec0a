/* Paho's C library of Debian, its synchronous client: PORT VERSION MODE. */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int five;
static MQTTClient client;

static void need(int holds, const char *what) {
    if (!holds) {
        printf("failed=%s\n", what);
        exit(1);
    }
}

/* Whether a session was there; in 5 it does not say, and what waited there does. */
static int open_as(const char *port, const char *name, int clean, int mortal) {
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%s", port);
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    create.MQTTVersion = five ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    need(MQTTClient_createWithOptions(&client, url, name, MQTTCLIENT_PERSISTENCE_NONE, NULL, &create) == 0, "create");
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    will.topicName = "lib/will";
    will.message = "gone";
    will.qos = 1;
    if (!five) {
        MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
        options.MQTTVersion = MQTTVERSION_3_1_1;
        options.cleansession = clean;
        options.will = mortal ? &will : NULL;
        need(MQTTClient_connect(client, &options) == 0, "connect");
        return options.returned.sessionPresent;
    }
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
    options.cleanstart = clean;
    options.will = mortal ? &will : NULL;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 3600};
    if (!clean) MQTTProperties_add(&properties, &expiry);
    MQTTResponse response = MQTTClient_connect5(client, &options, &properties, NULL);
    need(response.reasonCode == 0, "connect");
    MQTTResponse_free(response);
    return 1;
}

static void subscribe(const char *topic, int qos) {
    if (five) {
        MQTTResponse response = MQTTClient_subscribe5(client, topic, qos, NULL, NULL);
        need(response.reasonCode <= MQTTREASONCODE_GRANTED_QOS_2, "subscribe");
        MQTTResponse_free(response);
    } else {
        need(MQTTClient_subscribe(client, topic, qos) == 0, "subscribe");
    }
}

static void publish(const char *topic, const char *text, int qos, int retained) {
    MQTTClient_deliveryToken token;
    if (five) {
        MQTTClient_message message = MQTTClient_message_initializer;
        message.payload = (void *)text;
        message.payloadlen = (int)strlen(text);
        message.qos = qos;
        message.retained = retained;
        MQTTResponse response = MQTTClient_publishMessage5(client, topic, &message, &token);
        need(response.reasonCode == 0, "publish");
        MQTTResponse_free(response);
    } else {
        need(MQTTClient_publish(client, topic, (int)strlen(text), text, qos, retained, &token) == 0, "publish");
    }
    if (qos) need(MQTTClient_waitForCompletion(client, token, 10000) == 0, "completion");
}

static MQTTClient_message *next(void) {
    char *topic = NULL;
    int length;
    MQTTClient_message *message = NULL;
    MQTTClient_receive(client, &topic, &length, &message, 10000);
    need(message != NULL, "a message");
    return message;
}

static void leave(void) {
    if (five) MQTTClient_disconnect5(client, 1000, MQTTREASONCODE_SUCCESS, NULL);
    else MQTTClient_disconnect(client, 1000);
}

int main(int count, char **words) {
    need(count == 4, "three words");
    const char *port = words[1], *mode = words[3];
    five = strcmp(words[2], "5") == 0;
    if (!strcmp(mode, "version")) {
        for (MQTTClient_nameValue *info = MQTTClient_getVersionInfo(); info->name; info++)
            if (!strcmp(info->name, "Version")) puts(info->value);
    } else if (!strcmp(mode, "talk")) {
        open_as(port, "lib-talk", 1, 0);
        puts("connect=yes");
        for (int qos = 0; qos < 3; qos++) {
            char topic[16];
            snprintf(topic, sizeof topic, "lib/q%d", qos);
            subscribe(topic, qos);
            publish(topic, "x", qos, 0);
            printf("qos%d=at %d\n", qos, next()->qos);
        }
        publish("lib/kept", "kept", 1, 1);
        subscribe("lib/kept", 1);
        puts(next()->retained ? "retain=kept" : "retain=not kept");
        publish("lib/kept", "", 1, 1);
        leave();
    } else if (!strcmp(mode, "mortal")) {
        open_as(port, "lib-mortal", 1, 1);
        puts("ready");
        fflush(stdout);
        sleep(60);
    } else if (!strcmp(mode, "keep")) {
        open_as(port, "lib-keeps", 0, 0);
        subscribe("lib/waits", 1);
        leave();
    } else if (!strcmp(mode, "back")) {
        int present = open_as(port, "lib-keeps", 0, 0);
        MQTTClient_message *message = next();
        printf("session=%s, %.*s\n", present ? "present" : "gone", message->payloadlen, (char *)message->payload);
        leave();
    }
    return 0;
}
