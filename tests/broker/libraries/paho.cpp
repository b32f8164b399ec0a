// Paho's C++ library of Debian, its asynchronous client: PORT VERSION MODE.
#include <chrono>
#include <iostream>
#include <mqtt/async_client.h>
#include <string>
#include <thread>

using namespace std::chrono_literals;

static bool five;

static bool open_as(mqtt::async_client &client, bool clean, bool mortal) {
    auto builder = mqtt::connect_options_builder();
    if (five) {
        builder.mqtt_version(MQTTVERSION_5).clean_start(clean);
        if (!clean) builder.properties({{mqtt::property::SESSION_EXPIRY_INTERVAL, 3600}});
    } else {
        builder.mqtt_version(MQTTVERSION_3_1_1).clean_session(clean);
    }
    if (mortal) builder.will(mqtt::message("lib/will", "gone", 1, false));
    client.start_consuming();
    return client.connect(builder.finalize())->get_connect_response().is_session_present();
}

static mqtt::const_message_ptr next(mqtt::async_client &client) {
    mqtt::const_message_ptr message;
    if (!client.try_consume_message_for(&message, 10s) || !message) throw std::runtime_error("no message came");
    return message;
}

int main(int, char **words) {
    std::string port = words[1], mode = words[3];
    five = std::string(words[2]) == "5";
    auto client = [&](const char *name) { return mqtt::async_client("tcp://127.0.0.1:" + port, name, mqtt::create_options(five ? MQTTVERSION_5 : MQTTVERSION_3_1_1)); };
    if (mode == "version") {
        std::cout << PACKAGED << std::endl;
    } else if (mode == "talk") {
        auto one = client("lib-talk");
        open_as(one, true, false);
        std::cout << "connect=yes" << std::endl;
        for (int qos = 0; qos < 3; qos++) {
            auto topic = "lib/q" + std::to_string(qos);
            one.subscribe(topic, qos)->wait();
            one.publish(topic, std::string("x"), qos, false)->wait();
            std::cout << "qos" << qos << "=at " << next(one)->get_qos() << std::endl;
        }
        one.publish("lib/kept", std::string("kept"), 1, true)->wait();
        one.subscribe("lib/kept", 1)->wait();
        std::cout << "retain=" << (next(one)->is_retained() ? "kept" : "not kept") << std::endl;
        one.publish("lib/kept", std::string(), 1, true)->wait();
        one.disconnect()->wait();
    } else if (mode == "mortal") {
        auto one = client("lib-mortal");
        open_as(one, true, true);
        std::cout << "ready" << std::endl;
        std::this_thread::sleep_for(60s);
    } else if (mode == "keep") {
        auto one = client("lib-keeps");
        open_as(one, false, false);
        one.subscribe("lib/waits", 1)->wait();
        one.disconnect()->wait();
    } else if (mode == "back") {
        auto one = client("lib-keeps");
        bool present = open_as(one, false, false);
        std::cout << "session=" << (present ? "present" : "gone") << ", " << next(one)->to_string() << std::endl;
        one.disconnect()->wait();
    }
}
