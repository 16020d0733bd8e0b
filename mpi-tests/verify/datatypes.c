/*
 * Derived datatypes: what is sent scattered arrives scattered, contiguous or differently scattered, and the
 * gaps are left alone.
 */
#include "verify.h"

static int to(void)
{
    return (rank + 1) % ranks;
}

static int from(void)
{
    return (rank + ranks - 1) % ranks;
}

/* Blocks of `block` bytes every `stride` bytes, on one side or both. */
static void vector_of(int blocks, int block, int stride, uint64_t number)
{
    size_t packed = (size_t)blocks * (size_t)block, spread = (size_t)blocks * (size_t)stride;
    uint8_t *plain = allocate(packed), *scattered = allocate(spread), *in = allocate(spread);
    MPI_Datatype vector;
    MPI_Request request;
    MPI(MPI_Type_vector(blocks, block, stride, MPI_BYTE, &vector));
    MPI(MPI_Type_commit(&vector));
    fill(plain, packed, (struct stream){rank, to(), number});
    memset(scattered, UNTOUCHED, spread);
    for (int i = 0; i < blocks; i++)
        memcpy(scattered + (size_t)i * (size_t)stride, plain + (size_t)i * (size_t)block, (size_t)block);

    /* Scattered to contiguous. */
    MPI(MPI_Irecv(in, (int)packed, MPI_BYTE, from(), 1, MPI_COMM_WORLD, &request));
    MPI(MPI_Send(scattered, 1, vector, to(), 1, MPI_COMM_WORLD));
    MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
    check_bytes(in, packed, (struct stream){from(), rank, number});

    /* Contiguous to scattered, and scattered to scattered as an unexpected message. */
    for (int both = 0; both < 2; both++) {
        MPI_Status status;
        memset(in, UNTOUCHED, spread);
        MPI(MPI_Isend(both ? scattered : plain, both ? 1 : (int)packed, both ? vector : MPI_BYTE, to(), 2 + both,
                      MPI_COMM_WORLD, &request));
        if (both)
            MPI(MPI_Barrier(MPI_COMM_WORLD));
        MPI(MPI_Recv(in, 1, vector, from(), 2 + both, MPI_COMM_WORLD, &status));
        MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
        check_status(&status, from(), 2 + both, packed);
        uint8_t *gathered = allocate(packed);
        for (int i = 0; i < blocks; i++) {
            memcpy(gathered + (size_t)i * (size_t)block, in + (size_t)i * (size_t)stride, (size_t)block);
            check_untouched(in + (size_t)i * (size_t)stride + block, (size_t)(stride - block), "between blocks");
        }
        check_bytes(gathered, packed, (struct stream){from(), rank, number});
        free(gathered);
    }
    MPI(MPI_Type_free(&vector));
    free(plain);
    free(scattered);
    free(in);
}

static void vectors(void)
{
    vector_of(1, 8, 16, 100);
    vector_of(3, 100, 150, 101);
    vector_of(64, 16, 40, 102);
    vector_of(1000, 3, 7, 103);
    vector_of(512, 1024, 1100, 104);
    vector_of(20000, 24, 32, 105);
    vector_of(4, 300000, 300017, 106);
}

/* A structure with holes that the compiler put there. */
struct record {
    char name[5];
    double value;
    int8_t small;
    int64_t big;
    int16_t three[3];
};

static void structures(void)
{
    enum { MOST = 3000 };
    static const int counts[] = {1, 10, 100, MOST};
    static struct record out[MOST], in[MOST];
    int lengths[] = {5, 1, 1, 1, 3};
    MPI_Aint places[] = {offsetof(struct record, name), offsetof(struct record, value), offsetof(struct record, small),
                         offsetof(struct record, big), offsetof(struct record, three)};
    MPI_Datatype types[] = {MPI_CHAR, MPI_DOUBLE, MPI_INT8_T, MPI_INT64_T, MPI_INT16_T}, exact, record;
    MPI(MPI_Type_create_struct(5, lengths, places, types, &exact));
    MPI(MPI_Type_create_resized(exact, 0, sizeof(struct record), &record));
    MPI(MPI_Type_commit(&record));
    for (int i = 0; i < 4; i++) {
        MPI_Status status;
        int received;
        memset(in, UNTOUCHED, sizeof in);
        for (int j = 0; j < counts[i]; j++) {
            struct stream stream = {rank, to(), 200 + (uint64_t)i};
            int64_t value = value_of(stream, (size_t)j);
            memcpy(out[j].name, &value, 5);
            out[j].value = (double)value / 2;
            out[j].small = (int8_t)value;
            out[j].big = value * value;
            for (int k = 0; k < 3; k++)
                out[j].three[k] = (int16_t)(value + k);
        }
        MPI(MPI_Sendrecv(out, counts[i], record, to(), i, in, counts[i], record, from(), i, MPI_COMM_WORLD, &status));
        MPI(MPI_Get_count(&status, record, &received));
        check_value(received, counts[i], "records received");
        for (int j = 0; j < counts[i]; j++) {
            struct stream stream = {from(), rank, 200 + (uint64_t)i};
            int64_t value = value_of(stream, (size_t)j);
            check_value(memcmp(in[j].name, &value, 5), 0, "name of a record");
            check_value((int64_t)(in[j].value * 2), value, "value of a record");
            check_value(in[j].small, (int8_t)value, "small of a record");
            check_value(in[j].big, value * value, "big of a record");
            check_value(in[j].three[2], (int16_t)(value + 2), "three of a record");
            check_untouched((uint8_t *)&in[j] + 5, offsetof(struct record, value) - 5, "the hole in a record");
        }
    }
    MPI(MPI_Type_free(&exact));
    MPI(MPI_Type_free(&record));
}

/* Uneven blocks at uneven places. */
static void indexed(void)
{
    enum { BLOCKS = 300, SPAN = 64 * 1024 };
    int lengths[BLOCKS], places[BLOCKS];
    struct random random = random_of(210);
    int at = 0, packed = 0;
    for (int i = 0; i < BLOCKS; i++) {
        lengths[i] = (int)random_below(&random, 150);
        at += (int)random_below(&random, 50);
        places[i] = at;
        at += lengths[i];
        packed += lengths[i];
    }
    MPI_Datatype type;
    MPI(MPI_Type_indexed(BLOCKS, lengths, places, MPI_BYTE, &type));
    MPI(MPI_Type_commit(&type));
    uint8_t *plain = allocate((size_t)packed), *in = allocate((size_t)at), *gathered = allocate((size_t)packed);
    fill(plain, (size_t)packed, (struct stream){rank, to(), 210});
    memset(in, UNTOUCHED, (size_t)at);
    MPI(MPI_Sendrecv(plain, packed, MPI_BYTE, to(), 0, in, 1, type, from(), 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
    for (int i = 0, offset = 0, end = 0; i < BLOCKS; i++) {
        check_untouched(in + end, (size_t)(places[i] - end), "between blocks");
        memcpy(gathered + offset, in + places[i], (size_t)lengths[i]);
        offset += lengths[i];
        end = places[i] + lengths[i];
    }
    check_bytes(gathered, (size_t)packed, (struct stream){from(), rank, 210});
    MPI(MPI_Type_free(&type));
    free(plain);
    free(in);
    free(gathered);
}

const struct test datatype_tests[] = {
    {"vectors", vectors}, {"structures", structures}, {"indexed", indexed}, {NULL, NULL},
};
