/*
 * Messages to oneself: posted first and arrived first, all sizes, both interfaces, truncated and injected.
 */
#include "harness.h"

enum { LARGEST = 3 << 20 };
static const size_t sizes[] = {0, 1, 100, 4096, 16385, 65537, 1 << 20, LARGEST};

static struct node node;
static struct fi_context2 send_context, receive_context;

int main(void)
{
    uint8_t *out = malloc(LARGEST), *in = malloc(LARGEST);
    struct fi_cq_tagged_entry entry;
    struct fi_cq_err_entry error;
    begin("");
    CHECK(in != NULL && out != NULL, "no memory");
    open_node(&node, &(struct wish){0});
    fi_addr_t self = insert(&node, node.name);
    for (unsigned i = 0; i < 4 * 8; i++) {
        size_t length = sizes[i % 8];
        bool tagged = i / 8 % 2, posted = i / 16;
        pattern_fill(out, length, i);
        memset(in, 0, length);
        for (int step = 0; step < 2; step++)
            if ((step == 0) == posted)
                RETRY(&node, tagged ? fi_trecv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, i, 0, &receive_context)
                                    : fi_recv(node.ep, in, length, NULL, FI_ADDR_UNSPEC, &receive_context));
            else
                RETRY(&node, tagged ? fi_tsend(node.ep, out, length, NULL, self, i, &send_context)
                                    : fi_send(node.ep, out, length, NULL, self, &send_context));
        bool sent = false, received = false;
        while (!sent || !received) {
            completion(&node, &entry);
            if (entry.op_context == &receive_context) {
                CHECK(entry.len == length, "len %zu of %zu", entry.len, length);
                received = true;
            } else {
                sent = true;
            }
        }
        pattern_check(in, length, i, "message to oneself");
    }
    if (provider_is_ours()) {
        pattern_fill(out, 100, 99);
        RETRY(&node, fi_tinject(node.ep, out, 100, self, 7));
        RETRY(&node, fi_trecv(node.ep, in, 50, NULL, FI_ADDR_UNSPEC, 7, 0, &receive_context));
        error_completion(&node, &error);
        CHECK(error.err == FI_ETRUNC && error.len == 50 && error.olen == 50, "err %d len %zu olen %zu", error.err,
              error.len, error.olen);
    }
    no_completion(&node);
    close_node(&node);
    free(out);
    free(in);
    return 0;
}
