"""What a run is built from."""

from masac.training.build import update_operations
from tests.losses.common import N, noisy_loss, our_actor, our_critic


def test_update_operations_count_every_use_of_a_weight():
    loss = noisy_loss(our_actor(True), our_critic(True, "independent"), num_qvalue_nets=2)
    # actor 4 -> 16 -> 4: 4*16 + 16 + 16*4 + 4 = 148; a critic 6 -> 16 -> 1: 6*16 + 16 + 16 + 1 = 129, twice
    assert sum(p.numel() for p in loss.actor_network_params.parameters()) == 148
    assert update_operations([loss], 10) == 2 * (4 * 148 + 6 * 258) * 10 * N
