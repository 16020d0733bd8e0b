/*
 * Who sent it: with FI_SOURCE an index of the address vector, or nothing when the sender is not in it. With
 * FI_SOURCE_ERR a message of an unknown sender arrives all the same, and is reported with the sender's address.
 */
#include "harness.h"

static struct node receiver, sender;
static fi_addr_t to_receiver;

/* Sends one message and waits until something is reported for it; both sides are driven here. */
static ssize_t receive_one(uint64_t word, uint64_t *in, struct fi_cq_tagged_entry *entry, fi_addr_t *source)
{
    static struct fi_context2 send_context, receive_context;
    struct fi_cq_tagged_entry sent;
    ssize_t result;
    bool done = false;
    double limit = now_seconds() + WAIT_SECONDS;
    *in = 0;
    RETRY(&receiver, fi_trecv(receiver.ep, in, sizeof *in, NULL, FI_ADDR_UNSPEC, 1, 0, &receive_context));
    RETRY(&sender, fi_tsend(sender.ep, &word, sizeof word, NULL, to_receiver, 1, &send_context));
    while ((result = fi_cq_readfrom(receiver.cq, entry, 1, source)) == -FI_EAGAIN || !done) {
        done |= fi_cq_read(sender.cq, &sent, 1) == 1;
        CHECK(now_seconds() < limit, "nothing is reported");
        if (result != -FI_EAGAIN)
            break;
    }
    while (!done)
        done = completion_within(&sender, &sent, 0.001);
    return result;
}

static void open_both(uint64_t caps)
{
    open_node(&receiver, &(struct wish){.caps = FI_MSG | FI_TAGGED | caps});
    open_node(&sender, &(struct wish){0});
    to_receiver = insert(&sender, receiver.name);
}

static void close_both(void)
{
    close_node(&receiver);
    close_node(&sender);
}

static void unknown_senders_have_no_index(void)
{
    struct fi_cq_tagged_entry entry;
    fi_addr_t source = 0;
    uint64_t in;
    open_both(FI_SOURCE);
    CHECK(!(receiver.info->caps & FI_SOURCE_ERR), "errors for unknown senders were not asked for");
    RETURNS(1, receive_one(11, &in, &entry, &source));
    CHECK(in == 11 && source == FI_ADDR_NOTAVAIL, "received %" PRIu64 " from %" PRIu64, in, source);
    fi_addr_t index = insert(&receiver, sender.name);
    RETURNS(1, receive_one(12, &in, &entry, &source));
    CHECK(in == 12 && source == index, "received %" PRIu64 " from %" PRIu64, in, source);
    close_both();
}

static void unknown_senders_are_reported_with_their_address(void)
{
    struct fi_cq_tagged_entry entry;
    struct fi_cq_err_entry error;
    uint8_t data[NAME_BYTES];
    fi_addr_t source = 0;
    uint64_t in;
    open_both(FI_SOURCE_ERR);
    CHECK((receiver.info->caps & (FI_SOURCE | FI_SOURCE_ERR)) == (FI_SOURCE | FI_SOURCE_ERR), "caps 0x%" PRIx64,
          receiver.info->caps);
    /* Into a buffer that is large enough, one that is not, and the provider's own. */
    size_t rooms[] = {sizeof data, 6, 0};
    for (unsigned i = 0; i < 3; i++) {
        RETURNS(-FI_EAVAIL, receive_one(20 + i, &in, &entry, &source));
        memset(data, 0xee, sizeof data);
        error = (struct fi_cq_err_entry){.err_data = data, .err_data_size = rooms[i]};
        RETURNS(1, fi_cq_readerr(receiver.cq, &error, 0));
        CHECK(error.err == FI_EADDRNOTAVAIL && error.olen == 0, "error %d", error.err);
        CHECK(error.len == sizeof in && in == 20 + i && error.tag == 1, "the message itself: %" PRIu64, in);
        CHECK(error.flags == (FI_RECV | FI_TAGGED), "flags 0x%" PRIx64, error.flags);
        size_t length = rooms[i] == 6 ? 6 : sender.name_length;
        CHECK(error.err_data_size == length, "%zu bytes of address", error.err_data_size);
        CHECK((error.err_data == data) == (rooms[i] != 0), "somebody else's buffer");
        CHECK(memcmp(error.err_data, sender.name, length) == 0, "another address than the sender's");
        CHECK(data[rooms[i] == 0 ? 0 : length] == 0xee, "written beyond the buffer");
    }
    CHECK(fi_cq_strerror(receiver.cq, error.prov_errno, error.err_data, NULL, 0) != NULL, "no text");
    fi_addr_t index = insert(&receiver, error.err_data);
    RETURNS(1, receive_one(30, &in, &entry, &source));
    CHECK(in == 30 && source == index, "received %" PRIu64 " from %" PRIu64, in, source);
    close_both();
}

int main(void)
{
    begin("");
    if (!provider_is_ours())
        skip("few providers report unknown senders");
    unknown_senders_have_no_index();
    unknown_senders_are_reported_with_their_address();
    return 0;
}
