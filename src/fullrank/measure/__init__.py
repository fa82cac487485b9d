"""What a representation is worth: functions of plain tensors of features, which import no models and no training."""
