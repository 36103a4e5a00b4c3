import numpy as np
import pytest

from ecg_mlflow.records.synthetic.leads import (
    STANDARD_LEADS,
    independent_leads,
    lead_names,
    standard_leads,
    swap_arms,
)

EIGHT = np.random.default_rng(0).standard_normal((50, 8))


def named(independent, n_leads=12):
    return dict(zip(STANDARD_LEADS, standard_leads(independent, n_leads).T, strict=False))


def test_limb_leads_obey_einthoven_and_goldberger():
    lead = named(EIGHT)
    np.testing.assert_allclose(lead["I"] + lead["III"], lead["II"])
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-12)
    np.testing.assert_allclose(lead["aVF"], (lead["II"] + lead["III"]) / 2)
    np.testing.assert_array_equal(lead["V6"], EIGHT[:, 7])


def test_swapped_arms_turn_one_over_and_exchange_the_others():
    right, swapped = named(EIGHT), named(swap_arms(EIGHT))
    np.testing.assert_allclose(swapped["I"], -right["I"])
    np.testing.assert_allclose(swapped["II"], right["III"])
    np.testing.assert_allclose(swapped["III"], right["II"])
    np.testing.assert_allclose(swapped["aVR"], right["aVL"])
    np.testing.assert_allclose(swapped["aVF"], right["aVF"])
    np.testing.assert_allclose(swapped["V1"], right["V1"])


@pytest.mark.parametrize("n_leads", range(1, 13))
def test_any_number_of_leads_is_the_beginning_of_the_twelve(n_leads):
    needed = independent_leads(n_leads)
    some = standard_leads(EIGHT[:, :needed], n_leads)
    np.testing.assert_array_equal(some, standard_leads(EIGHT, 12)[:, :n_leads])
    assert len(lead_names(n_leads)) == n_leads


def test_a_single_lead_has_the_name_of_the_challenge():
    assert lead_names(1) == ("ECG",)
    assert lead_names(3) == ("I", "II", "III")
