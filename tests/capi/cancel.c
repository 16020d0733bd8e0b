/*
 * Cancelling: a posted receive ends in one error entry FI_ECANCELED and takes no message any more; what is
 * not there or already matched cannot be cancelled; a multi-receive buffer is given back.
 */
#include "harness.h"

static struct node node;
static struct fi_context2 contexts[4], unknown;

static void cancelled(struct fi_context2 *context, bool multi)
{
    struct fi_cq_err_entry error;
    OK(fi_cancel(&node.ep->fid, context));
    error_completion(&node, &error);
    CHECK(error.err == FI_ECANCELED, "%s", fi_strerror(error.err));
    CHECK(error.op_context == context, "an error entry of another operation");
    if (provider_is_ours() && multi)
        CHECK(error.flags & FI_MULTI_RECV, "flags 0x%" PRIx64, error.flags);
}

int main(void)
{
    static uint8_t in[3][64], big[16384], out[64];
    struct fi_cq_tagged_entry entry;
    begin("");
    open_node(&node, &(struct wish){.caps = FI_MSG | FI_TAGGED | FI_MULTI_RECV});
    fi_addr_t self = insert(&node, node.name);

    /* The middle one of three equal receives. */
    for (int i = 0; i < 3; i++)
        RETRY(&node, fi_trecv(node.ep, in[i], sizeof in[i], NULL, FI_ADDR_UNSPEC, 5, 0, &contexts[i]));
    cancelled(&contexts[1], false);
    for (int i = 0; i < 3; i += 2) {
        pattern_fill(out, sizeof out, (uint64_t)i);
        RETRY(&node, fi_tinject(node.ep, out, sizeof out, self, 5));
        completion_of(&node, &contexts[i], &entry);
        pattern_check(in[i], sizeof out, (uint64_t)i, "received after a cancellation");
    }
    for (size_t i = 0; i < sizeof in[1]; i++)
        CHECK(in[1][i] == 0, "the cancelled receive's buffer was written");

    /* Nothing to cancel. */
    if (provider_is_ours())
        RETURNS(-FI_ENOENT, fi_cancel(&node.ep->fid, &unknown));
    else
        (void)fi_cancel(&node.ep->fid, &unknown);
    no_completion(&node);

    /* A message receive, then a multi-receive buffer. */
    RETRY(&node, fi_recv(node.ep, in[0], sizeof in[0], NULL, FI_ADDR_UNSPEC, &contexts[0]));
    cancelled(&contexts[0], false);
    struct iovec iov = {big, sizeof big};
    struct fi_msg msg = {.msg_iov = &iov, .iov_count = 1, .addr = FI_ADDR_UNSPEC, .context = &contexts[3]};
    RETRY(&node, fi_recvmsg(node.ep, &msg, FI_MULTI_RECV | FI_COMPLETION));
    cancelled(&contexts[3], true);
    no_completion(&node);
    close_node(&node);
    return 0;
}
