/*
 * Two processes over IPv6 loopback.
 */
#include "harness.h"

enum { LARGE = 300000, ROUNDS = 50 };

int main(void)
{
    static struct node node;
    static struct peer peer;
    static uint8_t out[LARGE], in[LARGE];
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    int probe = socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (probe < 0 || bind(probe, (struct sockaddr *)&loopback, sizeof loopback) != 0)
        skip("this machine has no IPv6 loopback");
    close(probe);
    bool first = !start_peer(&peer);
    open_node(&node, &(struct wish){.addr_format = FI_SOCKADDR_IN6, .node = "::1"});
    CHECK(node.name_length == sizeof(struct sockaddr_in6), "a name of %zu bytes", node.name_length);
    CHECK(((struct sockaddr_in6 *)node.name)->sin6_family == AF_INET6, "a name of another family");
    introduce(&peer, &node);
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t length = i % 5 == 0 ? LARGE : i * 37;
        pattern_fill(out, length, i * 2 + first);
        RETRY(&node, fi_trecv(node.ep, in, length, NULL, peer.address, i, 0, &receive_context));
        RETRY(&node, fi_tsend(node.ep, out, length, NULL, peer.address, i, &send_context));
        completion(&node, &entry);
        completion(&node, &entry);
        pattern_check(in, length, i * 2 + !first, "message");
    }
    meet(&peer, &node);
    close_node(&node);
    return finish_peer(&peer);
}
