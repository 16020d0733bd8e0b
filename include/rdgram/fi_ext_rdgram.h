/*
 * Extensions of the rdgram libfabric provider, for applications that want to know.
 *
 * Nothing here is needed to use the provider.
 */
#ifndef RDGRAM_FI_EXT_RDGRAM_H
#define RDGRAM_FI_EXT_RDGRAM_H

#include <rdma/fabric.h>

/* fi_ep_attr.protocol of every endpoint; protocol_version says which version of the wire protocol. */
#define FI_PROTO_RDGRAM (FI_PROV_SPECIFIC | 0x72646772)

#endif
