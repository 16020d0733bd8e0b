/*
 * A process with an open endpoint forks. The child's use of it is refused or does nothing, its end disturbs
 * nobody, and what it opens itself works; the parent goes on as if nothing had happened.
 */
#include "harness.h"

static struct node node;
static fi_addr_t self;

static void talk_to_self(struct node *own, fi_addr_t to, uint64_t seed)
{
    static uint8_t out[100000], in[100000];
    struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry entry;
    pattern_fill(out, sizeof out, seed);
    RETRY(own, fi_trecv(own->ep, in, sizeof in, NULL, FI_ADDR_UNSPEC, seed, 0, &receive_context));
    RETRY(own, fi_tsend(own->ep, out, sizeof out, NULL, to, seed, &send_context));
    completion(own, &entry);
    completion(own, &entry);
    pattern_check(in, sizeof in, seed, "message to oneself");
}

static int child(void)
{
    struct fi_cq_tagged_entry entry;
    struct fi_context2 context;
    uint64_t word = 0;
    begin("child");
    if (provider_is_ours()) {
        /* Refused, not crashed and not sent: which error is the provider's choice. */
        ssize_t sent = fi_tsend(node.ep, &word, sizeof word, NULL, self, 77, &context);
        CHECK(sent < 0, "the child can send on its parent's endpoint");
        ssize_t read = fi_cq_read(node.cq, &entry, 1);
        CHECK(read <= 0, "the child takes its parent's completions");
        (void)fi_close(&node.ep->fid);
        (void)fi_close(&node.cq->fid);
    }
    struct node own;
    open_node(&own, &(struct wish){0});
    CHECK(own.name_length != node.name_length || memcmp(own.name, node.name, own.name_length) != 0,
          "the child's endpoint has its parent's name");
    talk_to_self(&own, insert(&own, own.name), 2);
    close_node(&own);
    /* With destructors: the library's cleanup must not touch what belongs to the parent. */
    exit(0);
}

int main(void)
{
    int status;
    begin("parent");
    open_node(&node, &(struct wish){0});
    self = insert(&node, node.name);
    talk_to_self(&node, self, 1);
    for (int round = 0; round < 3; round++) {
        pid_t pid = fork();
        CHECK(pid >= 0, "%s", strerror(errno));
        if (pid == 0)
            child();
        /* Meanwhile the parent works. */
        talk_to_self(&node, self, 10 + (uint64_t)round);
        CHECK(waitpid(pid, &status, 0) == pid, "%s", strerror(errno));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with status 0x%x", (unsigned)status);
        talk_to_self(&node, self, 20 + (uint64_t)round);
    }
    no_completion(&node);
    close_node(&node);
    return 0;
}
